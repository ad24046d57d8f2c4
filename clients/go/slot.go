package keybroker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// slot keeps the credential of one profile: cred is served from memory, and at most one flight is under way to get
// another.
type slot struct {
	client  *Client
	profile string
	cred    atomic.Pointer[Credential]

	mu      sync.Mutex
	flight  *flight
	again   bool        // something became known during the flight, so its answer may be old
	reports *flight     // a report under way
	refused *Credential // that it is about
	timer   *time.Timer // the next refresh
	pause   backoff     // of refreshes that fail
	told    bool        // that they do
}

// flight is one acquire or report that many callers may wait for.
type flight struct {
	done chan struct{} // closed when the rest is set
	cred *Credential
	err  error
}

func landed(cred *Credential) *flight {
	f := &flight{done: make(chan struct{}), cred: cred}
	close(f.done)
	return f
}

// get joins the flight, too, unless one has landed a moment ago.
func (s *slot) get() *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cred := s.cred.Load(); cred.valid() {
		return landed(cred)
	}
	return s.startLocked()
}

// start begins to acquire, or joins the flight that does.
func (s *slot) start() *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.startLocked()
}

func (s *slot) startLocked() *flight {
	if s.flight == nil {
		s.flight = &flight{done: make(chan struct{})}
		go s.fly(s.flight)
	}
	return s.flight
}

// refresh reads the lease again in the background, if there is one.
func (s *slot) refresh() {
	if cred := s.cred.Load(); cred != nil && cred.Lease != "" {
		s.start()
	}
}

func (s *slot) fly(f *flight) {
	ctx, cancel := s.client.patience()
	defer cancel()
	cred, err := s.acquire(ctx)
	if err != nil && s.client.ctx.Err() != nil {
		err = newError(ErrClosed, "", "the client was closed")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(cred, err)
	f.cred, f.err = cred, err
	close(f.done)
	s.flight = nil
	if s.again {
		s.again = false
		s.startLocked()
	}
}

// settle takes over what a flight brought. A credential stays when it cannot be read again, as long as it is good: only
// the broker's word ends it.
func (s *slot) settle(cred *Credential, err error) {
	old := s.cred.Load()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.client.ctx.Err() != nil {
		return
	}
	switch {
	case err == nil:
		s.pause.reset()
		s.told = false
		s.cred.Store(cred)
		if old != nil && old.Lease == cred.Lease && old.Generation < cred.Generation {
			time.AfterFunc(s.client.ackAfter, func() { s.ack(cred) })
		}
		if !cred.refreshAt.IsZero() {
			// a broker whose clock or LiteLLM is off must not be asked without end
			s.refreshIn(atLeast(time.Second, milliseconds(time.Until(cred.refreshAt).Milliseconds())))
		}
	case errors.Is(err, ErrDenied) || errors.Is(err, ErrUnknownProfile):
		s.cred.Store(nil)
	case old.valid():
		if !s.told {
			s.told = true
			s.client.logf("%v The key of %s is kept as it is.", err, s.profile)
		}
		var e *Error
		wait := atLeast(time.Second, s.pause.next())
		if errors.As(err, &e) {
			wait = atLeast(e.RetryAfter, wait)
		}
		s.refreshIn(wait)
	}
}

func (s *slot) refreshIn(d time.Duration) { s.timer = time.AfterFunc(d, s.refresh) }

// acquire reads the lease again, or gets a new one.
func (s *slot) acquire(ctx context.Context) (*Credential, error) {
	if cred := s.cred.Load(); cred != nil && cred.Lease != "" {
		cred, err := s.ask(ctx, field{"lease", cred.Lease})
		if !errors.Is(err, ErrUnknownLease) {
			return cred, err
		}
	}
	return s.ask(ctx, field{"profile", s.profile}, field{"request_id", requestID()})
}

func (s *slot) ask(ctx context.Context, fields ...field) (*Credential, error) {
	c := s.client
	t, err := c.call(ctx, "acquire", func(left time.Duration) []field {
		// the broker's own time-out comes first, since it says why
		ms := atLeast(time.Millisecond, left-left/10).Milliseconds()
		return append(fields[:len(fields):len(fields)], field{"timeout_ms", ms})
	})
	if errors.Is(err, errFallback) {
		cred := *c.fallback.Load()
		cred.Profile = s.profile
		return &cred, nil
	}
	if err != nil {
		return nil, err
	}
	return readCredential(t, s.profile, c.where())
}

func (s *slot) ack(cred *Credential) {
	if now := s.cred.Load(); now == nil || now.Lease != cred.Lease {
		return
	}
	ctx, cancel := s.client.patience()
	defer cancel()
	_, err := s.client.call(ctx, "ack", func(time.Duration) []field {
		return []field{{"lease", cred.Lease}, {"generation", cred.Generation}}
	})
	if err != nil && s.client.ctx.Err() == nil {
		s.client.logf("%v Generation %d of %s is not acknowledged: the older key stays for its grace.",
			err, cred.Generation, s.profile)
	}
}

func (s *slot) rotated(lease string, generation int64) {
	s.mu.Lock()
	busy := s.flight != nil
	s.again = s.again || busy
	s.mu.Unlock()
	cred := s.cred.Load()
	if !busy && cred != nil && cred.Lease == lease && (generation == 0 || generation > cred.Generation) {
		s.start()
	}
}

func (s *slot) revoked(lease string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again = s.again || s.flight != nil
	if cred := s.cred.Load(); cred != nil && cred.Lease == lease {
		s.cred.Store(nil)
	}
}

// report tells the broker of a refusal, once for all who had it with the same key.
func (s *slot) report(cred *Credential, status int) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cred.Lease == "" {
		return landed(cred) // the environment's
	}
	if now := s.cred.Load(); now.valid() && now.APIKey() != cred.APIKey() {
		return landed(now)
	}
	if s.reports == nil || s.refused.APIKey() != cred.APIKey() {
		f := &flight{done: make(chan struct{})}
		s.reports, s.refused = f, cred
		go func() {
			ctx, cancel := s.client.patience()
			defer cancel()
			f.cred, f.err = s.askAbout(ctx, cred, status)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.reports == f {
				s.reports, s.refused = nil, nil
			}
			close(f.done)
		}()
	}
	return s.reports
}

func (s *slot) askAbout(ctx context.Context, cred *Credential, status int) (*Credential, error) {
	t, err := s.client.call(ctx, "report", func(time.Duration) []field {
		return []field{{"lease", cred.Lease}, {"status", int64(status)}}
	})
	if err != nil && !errors.Is(err, ErrUnknownLease) {
		return nil, err
	}
	if state := t.text("state"); err == nil && state != "replaced" && state != "dead" {
		return cred, nil
	}
	// a flight that was under way may have been answered before the key was replaced
	for i := 0; ; i++ {
		now, err := s.client.wait(ctx, s.start())
		if err != nil || now.APIKey() != cred.APIKey() || i == 1 {
			return now, err
		}
	}
}

// close forgets the credential, and answers it.
func (s *slot) close() *Credential {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	cred := s.cred.Load()
	s.cred.Store(nil)
	return cred
}

func atLeast(a, b time.Duration) time.Duration {
	if a > b {
		return a
	}
	return b
}

// requestID names an acquire, so that it can be sent twice and is done once.
func requestID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // does not fail on Linux
	return hex.EncodeToString(b[:])
}
