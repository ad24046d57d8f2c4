// The bench of clients/README.md: a key from memory, and an acquire with a lease beside the same bytes over a bare socket.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"sync"
	"time"

	keybroker "github.com/keybroker/keybroker/clients/go"
	"github.com/vmihailenco/msgpack/v5"
)

const profile = "service"

type spread struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: bench SECONDS")
	}
	seconds, err := strconv.ParseFloat(os.Args[1], 64)
	check(err)
	ctx := context.Background()
	client := keybroker.New()
	defer client.Close()
	cred, err := client.Credential(ctx, profile)
	check(err)
	cached, control := cachedCalls(client)

	bare := dial()
	request := acquire(cred.Lease)
	var warm, raw []time.Duration
	for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(end); {
		began := time.Now()
		_, err := client.Refresh(ctx, profile)
		warm = append(warm, time.Since(began))
		check(err)
		began = time.Now()
		roundTrip(bare, request)
		raw = append(raw, time.Since(began))
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"cached_ns": cached, "control_ns": control, "warm_us": of(warm), "bare_us": of(raw),
	}))
}

// cachedCalls is the time of a call for a key in memory, and of its control: a map behind a mutex.
func cachedCalls(client *keybroker.Client) (cached, control float64) {
	const n = 1_000_000
	ctx := context.Background()
	began := time.Now()
	for i := 0; i < n; i++ {
		if key, err := client.APIKey(ctx, profile); err != nil || key == "" {
			log.Fatal("no key: ", err)
		}
	}
	cached = float64(time.Since(began).Nanoseconds()) / n
	var mu sync.Mutex
	keys := map[string]string{profile: "sk-something"}
	began = time.Now()
	for i := 0; i < n; i++ {
		mu.Lock()
		key := keys[profile]
		mu.Unlock()
		if key == "" {
			log.Fatal("no key")
		}
	}
	return cached, float64(time.Since(began).Nanoseconds()) / n
}

// acquire is the request that the library sends, as bytes made beforehand.
func acquire(lease string) []byte {
	var b bytes.Buffer
	e := msgpack.NewEncoder(&b)
	e.UseCompactInts(true)
	e.SetSortMapKeys(true)
	check(e.Encode([]any{0, 1, "acquire", []any{map[string]any{"lease": lease, "timeout_ms": 25650}}}))
	return b.Bytes()
}

func dial() net.Conn {
	path := os.Getenv("KEYBROKER_SOCKET")
	if path == "" {
		path = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "keybroker/keybroker.sock")
	}
	c, err := net.Dial("unix", path)
	check(err)
	return c
}

// roundTrip writes the request and reads its reply, which comes whole.
func roundTrip(c net.Conn, request []byte) {
	var reply [64 << 10]byte
	_, err := c.Write(request)
	check(err)
	n, err := c.Read(reply[:])
	check(err)
	if !bytes.Contains(reply[:n], []byte("api_key")) {
		log.Fatal("the broker refused")
	}
}

func of(times []time.Duration) spread {
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	at := func(share float64) float64 {
		return float64(times[int(share*float64(len(times)-1))].Nanoseconds()) / 1000
	}
	return spread{at(0.5), at(0.99)}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
