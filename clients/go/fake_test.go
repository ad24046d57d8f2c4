package keybroker

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// fake is a small broker with one key for each profile; its answers can be replaced.
type fake struct {
	t       testing.TB
	socket  string
	baseURL string

	mu         sync.Mutex
	listener   net.Listener
	conns      []net.Conn
	requests   []message
	generation int64
	expiresAt  time.Time
	refreshAt  time.Time
	leases     int
	// answer is asked first; nil, nil, nil: answer as usual
	answer func(c net.Conn, m message) (result, refusal []field, silent bool)
}

func newFake(t testing.TB) *fake {
	folder, err := os.MkdirTemp("", "kb") // t.TempDir() can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, socket: filepath.Join(folder, "s.sock"), baseURL: "http://127.0.0.1:9/v1", generation: 1}
	f.start()
	t.Cleanup(func() {
		f.stop()
		os.RemoveAll(folder)
	})
	return f
}

func (f *fake) start() {
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	f.listener = listener
	f.mu.Unlock()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c)
			f.mu.Unlock()
			go f.serve(c)
		}
	}()
}

func (f *fake) stop() {
	f.mu.Lock()
	f.listener.Close()
	f.mu.Unlock()
	f.hangUp()
}

func (f *fake) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		c.Close()
	}
	f.conns = nil
}

func (f *fake) serve(c net.Conn) {
	var buffer []byte
	part := make([]byte, 4096)
	for {
		for {
			length, v := walk(buffer, requestLimits)
			if v != complete {
				break
			}
			m, err := readMessage(buffer[:length])
			if err != nil {
				f.t.Error(err)
			}
			buffer = buffer[length:]
			f.handle(c, m)
		}
		n, err := c.Read(part)
		if err != nil {
			return
		}
		buffer = append(buffer, part[:n]...)
	}
}

func (f *fake) handle(c net.Conn, m message) {
	f.mu.Lock()
	f.requests = append(f.requests, m)
	answer := f.answer
	f.mu.Unlock()
	var result, refusal []field
	silent := false
	if answer != nil {
		result, refusal, silent = answer(c, m)
	}
	if silent {
		return
	}
	if result == nil && refusal == nil {
		result = f.usual(m)
	}
	reply(c, m.id, result, refusal)
}

func reply(c net.Conn, id uint32, result, refusal []field) {
	parts := []any{int64(typeReply), int64(id), nil, nil}
	if refusal != nil {
		parts[2] = refusal
	} else {
		parts[3] = result
	}
	data, err := pack(parts)
	if err != nil {
		panic(err)
	}
	_, _ = c.Write(data)
}

func (f *fake) usual(m message) []field {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch m.method {
	case "acquire":
		lease := m.params.text("lease")
		if lease == "" {
			f.leases++
			lease = fmt.Sprintf("lease-%d", f.leases)
		}
		return f.credential(lease)
	case "report":
		return []field{{"lease", m.params.text("lease")}, {"state", "alive"}}
	}
	return []field{{"term", int64(1)}}
}

func (f *fake) credential(lease string) []field {
	fields := []field{
		{"lease", lease}, {"mode", "shared"}, {"api_key", fakeKey(f.generation)}, {"base_url", f.baseURL},
		{"models", []any{"gpt-5"}}, {"generation", f.generation}, {"key_hash", "00000000"},
	}
	if !f.expiresAt.IsZero() {
		fields = append(fields, field{"expires_at_ms", f.expiresAt.UnixMilli()})
	}
	if !f.refreshAt.IsZero() {
		fields = append(fields, field{"refresh_at_ms", f.refreshAt.UnixMilli()})
	}
	return fields
}

func fakeKey(generation int64) string { return fmt.Sprintf("sk-fakefakefakefakefake%04d", generation) }

// rotate makes a new key; tell says so to all connections.
func (f *fake) rotate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generation++
}

func (f *fake) tell(method string, params ...field) {
	data, err := pack([]any{int64(typeNotification), method, []any{params}})
	if err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		_, _ = c.Write(data)
	}
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// asked are the requests of a method so far.
func (f *fake) asked(method string) []message {
	f.mu.Lock()
	defer f.mu.Unlock()
	var some []message
	for _, m := range f.requests {
		if m.method == method {
			some = append(some, m)
		}
	}
	return some
}

func (f *fake) client(options ...Option) *Client {
	options = append([]Option{WithSocket(f.socket), WithLogf(f.t.Logf), WithTimeout(5 * time.Second)}, options...)
	c := New(options...)
	logf := c.logf
	var mu sync.Mutex
	ended := false // a log of a goroutine that outlives the test would be a panic
	c.logf = func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			logf(format, args...)
		}
	}
	f.t.Cleanup(func() {
		c.Close()
		mu.Lock()
		defer mu.Unlock()
		ended = true
	})
	return c
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatal("not within 10 s: ", what)
}

// badServer answers each request by these bytes.
func badServer(t *testing.T, answer func(c io.Writer, id uint32)) *fake {
	f := newFake(t)
	f.set(func() {
		f.answer = func(c net.Conn, m message) ([]field, []field, bool) {
			answer(c, m.id)
			return nil, nil, true
		}
	})
	return f
}
