package keybroker

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// upstream is an API that takes one key, and what it was asked.
type upstream struct {
	*httptest.Server
	mu    sync.Mutex
	good  string
	heads []http.Header
	texts []string
}

func newUpstream(t *testing.T, f *fake) *upstream {
	u := &upstream{good: fakeKey(1)}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		u.mu.Lock()
		u.heads = append(u.heads, r.Header)
		u.texts = append(u.texts, string(text))
		good := u.good
		u.mu.Unlock()
		if to := r.URL.Query().Get("to"); to != "" {
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+good {
			http.Error(w, "not this key", http.StatusUnauthorized)
		}
	}))
	t.Cleanup(u.Close)
	f.set(func() { f.baseURL = u.URL + "/v1" })
	return u
}

func (u *upstream) keys() (keys []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, head := range u.heads {
		keys = append(keys, strings.TrimPrefix(head.Get("Authorization"), "Bearer "))
	}
	return keys
}

func (u *upstream) accept(key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.good = key
}

// die: the first key is refused from now on, and the broker has another when it is told.
func (u *upstream) die(f *fake) {
	u.accept(fakeKey(2))
	f.set(func() {
		f.answer = func(_ net.Conn, m message) ([]field, []field, bool) {
			if m.method != "report" {
				return nil, nil, false
			}
			f.set(func() { f.generation = 2 })
			return []field{{"lease", m.params.text("lease")}, {"state", "replaced"}}, nil, false
		}
	})
}

func status(t *testing.T, c *Client, r *http.Request) int {
	t.Helper()
	response, err := (&http.Client{Transport: c.Transport("service", nil)}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func request(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTransportSetsTheKeyOnACopy(t *testing.T) {
	f := newFake(t)
	u := newUpstream(t, f)
	c := f.client()
	r := request(t, "POST", u.URL+"/v1/chat", strings.NewReader("hello"))
	r.Header.Set("Authorization", "Bearer placeholder")
	response, err := c.Transport("service", nil).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 200 || u.texts[0] != "hello" {
		t.Error(response.Status, u.texts)
	}
	if r.Header.Get("Authorization") != "Bearer placeholder" || response.Request != r {
		t.Error("the caller's request has the key")
	}
}

func TestTransportTakesARequestWithoutHeaders(t *testing.T) {
	f := newFake(t)
	u := newUpstream(t, f)
	url, _ := url.Parse(u.URL + "/v1/models")
	answer, err := f.client().Transport("service", nil).RoundTrip(&http.Request{Method: "GET", URL: url})
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer, err)
	}
	answer.Body.Close()
}

func TestTransportReportsAndRetriesOnce(t *testing.T) {
	for name, body := range map[string]io.Reader{"a body": strings.NewReader("hello"), "none": nil} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			u := newUpstream(t, f)
			c := f.client()
			old, _ := c.Credential(ctx, "")
			u.die(f)
			if got := status(t, c, request(t, "POST", u.URL+"/v1/chat", body)); got != 200 {
				t.Error(got)
			}
			if keys := u.keys(); len(keys) != 2 || keys[0] != fakeKey(1) || keys[1] != fakeKey(2) || u.texts[0] != u.texts[1] {
				t.Error(keys, u.texts)
			}
			if now, err := c.Report(ctx, old, 401); err != nil || now.APIKey() != fakeKey(2) {
				t.Error(now, err)
			}
			report := f.asked("report")
			if len(report) != 1 || report[0].params.text("lease") != "lease-1" || report[0].params.integer("status") != 401 {
				t.Errorf("%v", report)
			}
		})
	}
}

func TestTransportReportsOnceForAll(t *testing.T) {
	f := newFake(t)
	u := newUpstream(t, f)
	c := f.client()
	mustKey(t, c)
	u.die(f)
	slow := f.answer
	f.set(func() {
		f.answer = func(k net.Conn, m message) ([]field, []field, bool) {
			if m.method == "report" {
				// until all have been refused
				eventually(t, "20 refusals", func() bool { return len(u.keys()) >= 20 })
			}
			return slow(k, m)
		}
	})
	var all sync.WaitGroup
	for i := 0; i < 20; i++ {
		r := request(t, "POST", u.URL+"/v1/chat", strings.NewReader("hello"))
		all.Add(1)
		go func() {
			defer all.Done()
			if got := status(t, c, r); got != 200 {
				t.Error(got)
			}
		}()
	}
	all.Wait()
	if n := len(f.asked("report")); n != 1 {
		t.Errorf("%d reports", n)
	}
}

func TestTransportSendsAStreamOnce(t *testing.T) {
	f := newFake(t)
	u := newUpstream(t, f)
	c := f.client()
	mustKey(t, c)
	u.die(f)
	r := request(t, "POST", u.URL+"/v1/chat", io.MultiReader(strings.NewReader("hello")))
	response, err := c.Transport("service", nil).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(response.Body)
	if response.StatusCode != 401 || string(text) != "not this key\n" || len(u.keys()) != 1 {
		t.Error(response.Status, string(text), u.keys())
	}
	if got := status(t, c, request(t, "GET", u.URL+"/v1/chat", nil)); got != 200 || len(f.asked("report")) != 1 {
		t.Error(got, f.asked("report"))
	}
}

func TestTransportKeepsTheAnswerIfTheBodyIsGone(t *testing.T) {
	f := newFake(t)
	u := newUpstream(t, f)
	c := f.client()
	mustKey(t, c)
	u.die(f)
	r := request(t, "POST", u.URL+"/v1/chat", strings.NewReader("hello"))
	r.GetBody = func() (io.ReadCloser, error) { return nil, fmt.Errorf("gone") }
	response, err := c.Transport("service", nil).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(response.Body)
	if response.StatusCode != 401 || string(text) != "not this key\n" {
		t.Error(response.Status, string(text))
	}
}

func TestTransportLeavesALivingKeysRefusalToTheCaller(t *testing.T) {
	f := newFake(t)
	u := newUpstream(t, f)
	c := f.client()
	mustKey(t, c)
	u.accept("another")
	if got := status(t, c, request(t, "GET", u.URL+"/v1/models", nil)); got != 401 || len(u.keys()) != 1 {
		t.Error(got, u.keys())
	}
}

func TestTransportWithoutABrokerKeepsTheAnswer(t *testing.T) {
	f := newFake(t)
	u := newUpstream(t, f)
	c := f.client(WithTimeout(300 * time.Millisecond))
	mustKey(t, c)
	u.accept("another")
	f.stop()
	if got := status(t, c, request(t, "GET", u.URL+"/v1/models", nil)); got != 401 {
		t.Error(got)
	}
}

func TestTransportGivesTheKeyToItsOriginAlone(t *testing.T) {
	f := newFake(t)
	u := newUpstream(t, f)
	other := &upstream{}
	other.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		other.mu.Lock()
		defer other.mu.Unlock()
		other.heads = append(other.heads, r.Header)
	}))
	t.Cleanup(other.Close)
	c := f.client()
	if got := status(t, c, request(t, "GET", other.URL+"/v1/models", nil)); got != 200 {
		t.Error(got)
	}
	// a redirect, with a placeholder; then one to a caller who has set the key, which net/http takes along to another port
	for _, key := range []string{"", mustKey(t, c)} {
		r := request(t, "POST", u.URL+"/v1/chat?to="+other.URL, strings.NewReader("hello"))
		if key != "" {
			r.Header.Set("Authorization", "Bearer "+key)
		}
		if got := status(t, c, r); got != 200 {
			t.Error(got)
		}
	}
	if keys := other.keys(); len(keys) != 3 || strings.Join(keys, "") != "" {
		t.Errorf("%q", keys)
	}
	for _, key := range u.keys() {
		if key != fakeKey(1) {
			t.Errorf("%q", key)
		}
	}
}

func TestOrigins(t *testing.T) {
	base, _ := originOfText("https://Example.org/v1")
	for text, same := range map[string]bool{
		"https://example.org/x": true, "https://EXAMPLE.org:443/": true, "http://example.org/v1": false,
		"https://example.org:444/v1": false, "https://api.example.org/v1": false, "https://example.org.evil/v1": false,
		"https://example.org@evil/v1": false,
	} {
		if o, _ := originOfText(text); (o == base) != same {
			t.Error(text)
		}
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func TestTransportFailsWithTheBrokersError(t *testing.T) {
	f := newFake(t)
	f.set(func() {
		f.answer = func(net.Conn, message) ([]field, []field, bool) {
			return nil, []field{{"code", "denied"}, {"message", "no"}}, false
		}
	})
	body := &closing{Reader: strings.NewReader("hello")}
	_, err := f.client().Transport("service", nil).RoundTrip(request(t, "POST", "http://127.0.0.1:9/v1/chat", body))
	if e, ok := err.(*Error); !ok || e.Code != ErrDenied || !body.closed {
		t.Error(err, body.closed)
	}
}
