// The SDK program of clients/README.md: chat completions by the unmodified OpenAI SDK, from many goroutines.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	keybroker "github.com/keybroker/keybroker/clients/go"
)

// tally is what came of the calls, and the transport below the library's, which sees the keys.
type tally struct {
	mu     sync.Mutex
	keys   map[string]bool
	Calls  int      `json:"calls"`
	Failed int      `json:"failed"`
	Keys   int      `json:"keys"`
	Errors []string `json:"errors"`
}

func (t *tally) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	t.keys[r.Header.Get("Authorization")] = true
	t.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

func (t *tally) count(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Calls++
	if err == nil {
		return
	}
	t.Failed++
	if len(t.Errors) < 5 {
		t.Errors = append(t.Errors, err.Error())
	}
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: sdk SECONDS WORKERS")
	}
	seconds, err := strconv.ParseFloat(os.Args[1], 64)
	check(err)
	workers, err := strconv.Atoi(os.Args[2])
	check(err)
	model := os.Getenv("KEYBROKER_TEST_MODEL")
	if model == "" {
		model = "gpt-5"
	}
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = workers

	ctx := context.Background()
	t := &tally{keys: map[string]bool{}, Errors: []string{}}
	client := keybroker.New()
	defer client.Close()
	baseURL, err := client.BaseURL(ctx, "service")
	check(err)
	complete := completer(baseURL, &http.Client{Transport: client.Transport("service", t)}, model)

	end := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var all sync.WaitGroup
	for i := 0; i < workers; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for time.Now().Before(end) {
				t.count(complete(ctx))
			}
		}()
	}
	all.Wait()
	t.Keys = len(t.keys)
	check(json.NewEncoder(os.Stdout).Encode(t))
}

func check(err error) {
	if err != nil {
		log.Fatal("sdk: ", err)
	}
}
