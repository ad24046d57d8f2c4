package keybroker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"sync/atomic"
	"time"
)

// unheard is how often leases are read of whose rotations the broker does not tell.
const unheard = time.Minute

// served is how long a connection lasts that has been of use.
const served = time.Second

// Client holds one connection to the broker and a credential for each profile that was asked for. It is safe for
// concurrent use; make one for the life of the program.
type Client struct {
	socket   string
	timeout  time.Duration
	ackAfter time.Duration
	logf     func(format string, args ...any)

	ctx  context.Context // until Close
	stop context.CancelFunc

	slotsLock sync.RWMutex
	slots     map[string]*slot

	pause backoff // before the next connection, unless a caller cannot wait

	dialing chan struct{} // held by who changes what follows
	conn    *conn
	// of these at most one is ever set, and once: the socket of the first connection, since another broker would have
	// other keys; what the environment had when there was no broker
	pinned   atomic.Pointer[string]
	fallback atomic.Pointer[Credential]
	trouble  atomic.Pointer[Error] // why a request is made again and again
}

// Option changes a Client when it is made.
type Option func(*Client)

// WithSocket names the broker's socket, and then no other is tried.
func WithSocket(path string) Option { return func(c *Client) { c.socket = path } }

// WithTimeout bounds each call, 30 s by default. The context of a call can only shorten it.
func WithTimeout(d time.Duration) Option { return func(c *Client) { c.timeout = d } }

// WithAckAfter is how long calls with an older key may be on their way when a newer one has come, 30 s by default; then the
// broker is told that the older key is in use no more.
func WithAckAfter(d time.Duration) Option { return func(c *Client) { c.ackAfter = d } }

// WithLogf takes the few lines that the client has to say, none with a key; log.Printf by default.
func WithLogf(logf func(format string, args ...any)) Option {
	return func(c *Client) { c.logf = logf }
}

// New makes a client. It connects when it is first used.
func New(options ...Option) *Client {
	c := &Client{
		timeout: 30 * time.Second, ackAfter: 30 * time.Second, logf: log.Printf,
		slots: map[string]*slot{}, dialing: make(chan struct{}, 1),
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	for _, option := range options {
		option(c)
	}
	return c
}

// String says which socket the client is for.
func (c *Client) String() string {
	socket := c.where()
	if socket == "" {
		socket = "found when first used"
	}
	return "keybroker.Client{socket: " + socket + "}"
}

// Format prints String, whatever the verb.
func (c *Client) Format(f fmt.State, verb rune) {
	if verb == 'q' {
		fmt.Fprintf(f, "%q", c.String())
		return
	}
	_, _ = io.WriteString(f, c.String())
}

// APIKey is the profile's key ("" is "service"): from memory, or from the broker if it is the first call.
func (c *Client) APIKey(ctx context.Context, profile string) (string, error) {
	cred, err := c.Credential(ctx, profile)
	if err != nil {
		return "", err
	}
	return cred.APIKey(), nil
}

// BaseURL is where the profile's key works, with its path: what an SDK calls base URL.
func (c *Client) BaseURL(ctx context.Context, profile string) (string, error) {
	cred, err := c.Credential(ctx, profile)
	if err != nil {
		return "", err
	}
	return cred.BaseURL, nil
}

// Credential is the key with all that is known of it. Ask again for each use: it is replaced when it changes.
func (c *Client) Credential(ctx context.Context, profile string) (*Credential, error) {
	s := c.slot(profile)
	if cred := s.cred.Load(); cred.valid() {
		return cred, nil
	}
	return c.wait(ctx, s.get())
}

// Refresh reads the profile's key from the broker now, which is seldom needed: the client does it by itself.
func (c *Client) Refresh(ctx context.Context, profile string) (*Credential, error) {
	return c.wait(ctx, c.slot(profile).start())
}

// Report says that the server at the base URL has refused a call made with cred by this HTTP status, and answers the
// credential to use from now on: the same if there is no other. Transport does it by itself.
func (c *Client) Report(ctx context.Context, cred *Credential, status int) (*Credential, error) {
	return c.wait(ctx, c.slot(cred.Profile).report(cred, status))
}

// Close releases the leases and ends the connection. A process that just ends need not call it.
func (c *Client) Close() error {
	c.stop()
	c.dialing <- struct{}{}
	defer func() { <-c.dialing }()
	k := c.conn
	c.conn = nil
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, s := range c.all() {
		if cred := s.close(); cred != nil && cred.Lease != "" && k != nil {
			_, _ = k.call(ctx, "release", []field{{"lease", cred.Lease}}) // else it ends with the process
		}
	}
	if k != nil {
		k.end(newError(ErrClosed, k.socket, "the client was closed"))
	}
	return nil
}

// slot is the profile's place; a closed client has an end for who waits on it.
func (c *Client) slot(profile string) *slot {
	if profile == "" {
		profile = "service"
	}
	c.slotsLock.RLock()
	s := c.slots[profile]
	c.slotsLock.RUnlock()
	if s != nil {
		return s
	}
	c.slotsLock.Lock()
	defer c.slotsLock.Unlock()
	if c.slots[profile] == nil {
		c.slots[profile] = &slot{client: c, profile: profile}
	}
	return c.slots[profile]
}

func (c *Client) all() []*slot {
	c.slotsLock.RLock()
	defer c.slotsLock.RUnlock()
	slots := make([]*slot, 0, len(c.slots))
	for _, s := range c.slots {
		slots = append(slots, s)
	}
	return slots
}

// wait waits for what is under way, which goes on for others if this caller gives up.
func (c *Client) wait(ctx context.Context, f *flight) (*Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	select {
	case <-f.done:
		return f.cred, f.err
	case <-ctx.Done():
	}
	if trouble := c.trouble.Load(); trouble != nil && !errors.Is(ctx.Err(), context.Canceled) {
		e := *trouble // says more than that it took too long
		return nil, e.because(ctx.Err())
	}
	return nil, contextError(ctx, c.where())
}

// where is the socket that this client uses; empty: none yet.
func (c *Client) where() string {
	if pinned := c.pinned.Load(); pinned != nil {
		return *pinned
	}
	return c.socket
}

// patience is the time of what goes on in the background.
func (c *Client) patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(c.ctx, c.timeout)
}

// errFallback: there is no broker, and the environment has a key.
var errFallback = errors.New("keybroker: no broker, OPENAI_API_KEY in its place")

// call makes one request, and makes it again over a new connection if that ends, until the context does.
func (c *Client) call(ctx context.Context, method string, params func(left time.Duration) []field) (table, error) {
	var lost *Error // why it is made again
	c.trouble.Store(nil)
	for pause := new(backoff); ; {
		began := time.Now()
		t, err := c.attempt(ctx, method, params)
		switch {
		case err == nil:
			c.trouble.Store(nil)
			return t, nil
		case ctx.Err() != nil && lost != nil:
			return nil, lost
		case !errors.Is(err, ErrLost) && !errors.Is(err, ErrNotLeader) && !(errors.Is(err, ErrUnreachable) && c.pinned.Load() != nil):
			return nil, err
		}
		errors.As(err, &lost)
		c.trouble.Store(lost)
		if time.Since(began) > served {
			pause.reset() // it was served
		}
		sleep(ctx, pause.next())
	}
}

func (c *Client) attempt(ctx context.Context, method string, params func(left time.Duration) []field) (table, error) {
	k, err := c.connection(ctx)
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	t, err := k.call(ctx, method, params(time.Until(deadline)))
	if errors.Is(err, ErrNotLeader) || errors.Is(err, context.DeadlineExceeded) {
		k.end(newError(ErrLost, k.socket, "the broker stops, or does not answer"))
	}
	return t, err
}

// connection is the present one, or a new one.
func (c *Client) connection(ctx context.Context) (*conn, error) {
	select {
	case c.dialing <- struct{}{}:
		defer func() { <-c.dialing }()
	case <-ctx.Done():
		return nil, contextError(ctx, c.where())
	}
	if c.ctx.Err() != nil {
		return nil, newError(ErrClosed, "", "the client was closed")
	}
	if c.fallback.Load() != nil {
		return nil, errFallback
	}
	if c.conn != nil {
		select {
		case <-c.conn.done:
		default:
			return c.conn, nil
		}
	}
	paths, again := sockets(c.socket), false
	if pinned := c.pinned.Load(); pinned != nil {
		paths, again = []string{*pinned}, true
	}
	raw, socket, err := dial(ctx, paths)
	if err != nil {
		if !again && c.fallBack(err) {
			return nil, errFallback
		}
		return nil, err
	}
	c.pinned.Store(&socket)
	c.conn = newConn(raw, socket, c.notified)
	go c.attend(c.conn, again)
	return c.conn, nil
}

// fallBack decides, for good, to use the environment's key if there is no broker at the first use of this client.
func (c *Client) fallBack(err error) bool {
	required := environ("KEYBROKER_REQUIRED")
	if !errors.Is(err, ErrUnreachable) || errors.Unwrap(err) != nil || (required != "" && required != "0") {
		return false
	}
	cred := environmentCredential()
	if cred == nil {
		return false
	}
	c.fallback.Store(cred)
	c.logf("%v OPENAI_API_KEY is used at %s; KEYBROKER_REQUIRED=1 would forbid that.", err, cred.BaseURL)
	return true
}

// attend keeps watch on a connection: takes up the leases if it is not the first, and connects again at its end as long
// as there is a credential to keep.
func (c *Client) attend(k *conn, again bool) {
	if again {
		for _, s := range c.all() {
			s.refresh()
		}
	}
	select {
	case <-k.done:
	case <-k.answered:
		if again {
			c.logf("keybroker: connected again to %s", k.socket)
		}
		began := time.Now()
		c.watch(k)
		<-k.done
		if time.Since(began) > served {
			c.pause.reset() // else it answers, and hangs up: it is not to be asked ever again at once
		}
		if c.ctx.Err() == nil {
			c.logf("%v Connecting again.", k.failure)
		}
	}
	for c.holds() && sleep(c.ctx, c.pause.next()) {
		ctx, cancel := c.patience()
		_, err := c.connection(ctx)
		cancel()
		if err == nil {
			return
		}
	}
}

// watch asks to be told of rotations; what was missed until then is told first. Refused, since too many connections of this
// process watch, it looks for them itself, and asks again.
func (c *Client) watch(k *conn) {
	for told := false; ; told = true {
		ctx, cancel := c.patience()
		_, err := k.call(ctx, "watch", nil)
		cancel()
		if err == nil || c.ctx.Err() != nil || errors.Is(err, ErrLost) {
			return
		}
		if !told {
			c.logf("%v The broker will not say when a key rotates: it is looked for each %v.", err, unheard)
		}
		select {
		case <-k.done:
			return
		case <-time.After(unheard):
			for _, s := range c.all() {
				s.refresh()
			}
		}
	}
}

// holds: there is a credential that is still good.
func (c *Client) holds() bool {
	for _, s := range c.all() {
		if s.cred.Load().valid() {
			return true
		}
	}
	return false
}

// notified runs in the reader of the connection, so that it comes between the replies that it came between.
func (c *Client) notified(k *conn, m message) {
	if m.method == "leader_changed" {
		k.end(newError(ErrLost, k.socket, "another instance of the broker leads"))
	}
	lease, generation := m.params.text("lease"), m.params.integer("generation")
	for _, s := range c.all() {
		switch m.method {
		case "rotated":
			s.rotated(lease, generation)
		case "revoked":
			s.revoked(lease)
		}
	}
}
