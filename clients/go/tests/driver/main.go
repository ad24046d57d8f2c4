// The driver of clients/README.md: does what lines of JSON on stdin ask, and answers each with a line on stdout.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sort"
	"strings"
	"sync"
	"time"

	keybroker "github.com/keybroker/keybroker/clients/go"
)

type options struct {
	Socket     string `json:"socket"`
	TimeoutMS  *int64 `json:"timeout_ms"`
	AckAfterMS *int64 `json:"ack_after_ms"`
}

type request struct {
	Ask        string
	Client     string
	Profile    string
	Options    options
	N          int
	BodyStream bool `json:"body_stream"`
	URL        string
}

type answer map[string]any

type driver struct {
	clients map[string]*keybroker.Client
	options map[string]options

	mu    sync.Mutex
	lines []string
}

var background = context.Background()

func main() {
	d := &driver{clients: map[string]*keybroker.Client{}, options: map[string]options{}}
	if asked := os.Getenv(childAsks); asked != "" {
		os.Unsetenv(childAsks)
		d.child(asked)
		return
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		began := time.Now()
		a, err := d.answer(in.Bytes())
		if err != nil {
			a = answer{"error": show(err)}
		}
		a["ms"] = float64(time.Since(began).Microseconds()) / 1000
		if err := out.Encode(a); err != nil {
			os.Exit(1)
		}
	}
}

func (d *driver) answer(line []byte) (answer, error) {
	r := request{Client: "main", Profile: "service"}
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, err
	}
	if r.Ask == "open" {
		d.open(r.Client, r.Options)
		return answer{}, nil
	}
	ask, known := asks[r.Ask]
	if !known {
		return nil, fmt.Errorf("nothing to ask for is called %q", r.Ask)
	}
	if d.clients[r.Client] == nil {
		d.open(r.Client, options{})
	}
	return ask(d, d.clients[r.Client], &r)
}

var asks = map[string]func(*driver, *keybroker.Client, *request) (answer, error){
	"api_key":    (*driver).apiKey,
	"base_url":   (*driver).baseURL,
	"credential": (*driver).credential,
	"many":       (*driver).many,
	"call":       (*driver).call,
	"call_other": (*driver).callOther,
	"child":      (*driver).spawn,
	"show":       (*driver).show,
	"logged":     (*driver).logged,
	"close":      (*driver).close,
}

func (d *driver) open(name string, o options) {
	opts := []keybroker.Option{keybroker.WithLogf(d.logf)}
	if o.Socket != "" {
		opts = append(opts, keybroker.WithSocket(o.Socket))
	}
	if o.TimeoutMS != nil {
		opts = append(opts, keybroker.WithTimeout(time.Duration(*o.TimeoutMS)*time.Millisecond))
	}
	if o.AckAfterMS != nil {
		opts = append(opts, keybroker.WithAckAfter(time.Duration(*o.AckAfterMS)*time.Millisecond))
	}
	if old := d.clients[name]; old != nil {
		old.Close()
	}
	d.clients[name], d.options[name] = keybroker.New(opts...), o
}

func (d *driver) apiKey(c *keybroker.Client, r *request) (answer, error) {
	key, err := c.APIKey(background, r.Profile)
	return answer{"key_hash": hash(key)}, err
}

func (d *driver) baseURL(c *keybroker.Client, r *request) (answer, error) {
	url, err := c.BaseURL(background, r.Profile)
	return answer{"base_url": url}, err
}

func (d *driver) credential(c *keybroker.Client, r *request) (answer, error) {
	cred, err := c.Credential(background, r.Profile)
	if err != nil {
		return nil, err
	}
	a := answer{"lease": cred.Lease, "key_hash": hash(cred.APIKey()), "generation": cred.Generation, "mode": cred.Mode,
		"base_url": cred.BaseURL, "expires_at_ms": nil}
	if !cred.ExpiresAt.IsZero() {
		a["expires_at_ms"] = cred.ExpiresAt.UnixMilli()
	}
	return a, nil
}

func (d *driver) many(c *keybroker.Client, r *request) (answer, error) {
	hashes, codes := map[string]bool{}, map[string]bool{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := 0; i < r.N; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			key, err := c.APIKey(background, r.Profile)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				codes[show(err)["code"].(string)] = true
			} else {
				hashes[hash(key)] = true
			}
		}()
	}
	all.Wait()
	return answer{"key_hashes": sorted(hashes), "codes": sorted(codes)}, nil
}

// witness notes the key of the last request that really left.
type witness struct {
	mu      sync.Mutex
	keyHash string
}

func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.keyHash = hash(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	w.mu.Unlock()
	return http.DefaultTransport.RoundTrip(r)
}

func (d *driver) call(c *keybroker.Client, r *request) (answer, error) {
	base, err := c.BaseURL(background, r.Profile)
	if err != nil {
		return nil, err
	}
	var w witness
	transport := c.Transport(r.Profile, &w)
	if r.N == 0 {
		status, err := post(transport, base, r.BodyStream)
		return answer{"status": status, "key_hash": w.keyHash}, err
	}
	statuses := map[int]bool{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := 0; i < r.N; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			status, callErr := post(transport, base, r.BodyStream)
			mu.Lock()
			defer mu.Unlock()
			statuses[status] = true
			if callErr != nil {
				err = callErr
			}
		}()
	}
	all.Wait()
	list := []int{}
	for status := range statuses {
		list = append(list, status)
	}
	sort.Ints(list)
	return answer{"statuses": list, "key_hash": w.keyHash}, err
}

func post(transport http.RoundTripper, base string, stream bool) (int, error) {
	var body io.Reader = strings.NewReader(`{"model": "gpt-5", "messages": [{"role": "user", "content": "ping"}]}`)
	if stream {
		body = io.MultiReader(body) // net/http does not know it, so there is no GetBody
	}
	r, err := http.NewRequest("POST", base+"/chat/completions", body)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	return send(&http.Client{Transport: transport}, r)
}

func (d *driver) callOther(c *keybroker.Client, r *request) (answer, error) {
	get, err := http.NewRequest("GET", r.URL, nil)
	if err != nil {
		return nil, err
	}
	status, err := send(&http.Client{Transport: c.Transport(r.Profile, nil)}, get)
	return answer{"status": status}, err
}

func send(c *http.Client, r *http.Request) (int, error) {
	response, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// What a child, this program once more, is to do.
const (
	childAsks    = "KEYBROKER_DRIVER_CHILD"
	childOptions = "KEYBROKER_DRIVER_OPTIONS"
	childProfile = "KEYBROKER_DRIVER_PROFILE"
)

func (d *driver) run(r *request, ask string) *exec.Cmd {
	text, _ := json.Marshal(d.options[r.Client])
	self, _ := os.Executable()
	child := exec.Command(self)
	child.Env = append(os.Environ(), childAsks+"="+ask, childOptions+"="+string(text), childProfile+"="+r.Profile)
	return child
}

func (d *driver) child(ask string) {
	var o options
	_ = json.Unmarshal([]byte(os.Getenv(childOptions)), &o)
	d.open("main", o)
	a, err := d.credential(d.clients["main"], &request{Profile: os.Getenv(childProfile)})
	if err != nil {
		a = answer{"error": show(err)}
	}
	if ask == "panic" && err == nil {
		cred, _ := d.clients["main"].Credential(background, os.Getenv(childProfile))
		crash(d.clients["main"], cred, *cred)
	}
	_ = json.NewEncoder(os.Stdout).Encode(a)
}

//go:noinline
func crash(c *keybroker.Client, cred *keybroker.Credential, _ keybroker.Credential) {
	defer panic(c)
	panic(cred)
}

func (d *driver) spawn(c *keybroker.Client, r *request) (answer, error) {
	if _, err := c.Credential(background, r.Profile); err != nil {
		return nil, err
	}
	child := d.run(r, "credential")
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err != nil {
		return nil, err
	}
	var a answer
	if err := json.Unmarshal(out, &a); err != nil {
		return nil, err
	}
	cred, err := c.Credential(background, r.Profile)
	if err != nil {
		return nil, err
	}
	if a["error"] != nil {
		return a, nil
	}
	return answer{"lease": a["lease"], "key_hash": a["key_hash"],
		"parent_lease": cred.Lease, "parent_key_hash": hash(cred.APIKey())}, nil
}

func (d *driver) show(c *keybroker.Client, r *request) (answer, error) {
	cred, err := c.Credential(background, r.Profile)
	if err != nil {
		return nil, err
	}
	_, failed := c.Credential(background, cred.APIKey()) // so that a message might repeat it
	wrapped := struct {
		credential keybroker.Credential
		pointer    *keybroker.Credential
		err        error
	}{*cred, cred, failed}
	var texts []string
	for _, thing := range []any{c, cred, *cred, failed, wrapped, &wrapped, []any{cred, *cred, failed}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, thing))
		}
		text, err := json.Marshal(thing)
		texts = append(texts, string(text)+fmt.Sprint(err))
	}
	out, _ := d.run(r, "panic").CombinedOutput()
	texts = append(texts, string(out))
	return answer{"texts": texts}, nil
}

func (d *driver) logf(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *driver) logged(*keybroker.Client, *request) (answer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return answer{"lines": append([]string{}, d.lines...)}, nil
}

func (d *driver) close(c *keybroker.Client, _ *request) (answer, error) {
	return answer{}, c.Close()
}

func show(err error) answer {
	var e *keybroker.Error
	if !errors.As(err, &e) {
		return answer{"code": "other", "message": err.Error(), "advice": "", "socket": "", "retry_after_ms": nil}
	}
	a := answer{"code": string(e.Code), "message": e.Message, "advice": e.Advice, "socket": e.Socket, "retry_after_ms": nil}
	if e.RetryAfter > 0 {
		a["retry_after_ms"] = e.RetryAfter.Milliseconds()
	}
	return a
}

func hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:4])
}

func sorted(set map[string]bool) []string {
	list := []string{}
	for item := range set {
		list = append(list, item)
	}
	sort.Strings(list)
	return list
}
