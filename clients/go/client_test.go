package keybroker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var ctx = context.Background()

func mustKey(t *testing.T, c *Client) string {
	t.Helper()
	key, err := c.APIKey(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestManyCallersAreOneAcquire(t *testing.T) {
	f := newFake(t)
	c := f.client()
	var all sync.WaitGroup
	for i := 0; i < 100; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			if key, err := c.APIKey(ctx, "service"); err != nil || key != fakeKey(1) {
				t.Error(key, err)
			}
		}()
	}
	all.Wait()
	mustKey(t, c)
	if n := len(f.asked("acquire")); n != 1 {
		t.Errorf("%d acquires", n)
	}
	eventually(t, "a watch", func() bool { return len(f.asked("watch")) == 1 })
}

// Who looked before the flight landed, and asks after it.
func TestWhoIsLateForAFlightStartsNone(t *testing.T) {
	f := newFake(t)
	c := f.client()
	mustKey(t, c)
	if cred, err := c.wait(ctx, c.slot("").get()); err != nil || cred.APIKey() != fakeKey(1) || len(f.asked("acquire")) != 1 {
		t.Error(cred, err, len(f.asked("acquire")))
	}
}

func TestCredentialSaysAllThatIsKnown(t *testing.T) {
	f := newFake(t)
	expiry := time.UnixMilli(time.Now().Add(time.Hour).UnixMilli())
	f.set(func() { f.expiresAt = expiry })
	cred, err := f.client().Credential(ctx, "batch")
	if err != nil {
		t.Fatal(err)
	}
	if cred.Profile != "batch" || cred.Mode != "shared" || cred.Lease != "lease-1" || cred.BaseURL != f.baseURL ||
		cred.Generation != 1 || !cred.ExpiresAt.Equal(expiry) || len(cred.Models) != 1 || cred.Models[0] != "gpt-5" {
		t.Errorf("%#v", cred)
	}
}

func TestRotationIsTakenUpAndAcknowledged(t *testing.T) {
	f := newFake(t)
	c := f.client(WithAckAfter(50 * time.Millisecond))
	mustKey(t, c)
	for generation := int64(2); generation < 5; generation++ {
		f.rotate()
		f.tell("rotated", field{"lease", "lease-1"}, field{"generation", generation})
		eventually(t, "the new key", func() bool { return mustKey(t, c) == fakeKey(generation) })
	}
	eventually(t, "each ack", func() bool { return len(f.asked("ack")) == 3 })
	acknowledged := map[int64]bool{}
	for _, ack := range f.asked("ack") {
		if ack.params.text("lease") == "lease-1" {
			acknowledged[ack.params.integer("generation")] = true
		}
	}
	if !acknowledged[2] || !acknowledged[3] || !acknowledged[4] {
		t.Errorf("%v", acknowledged)
	}
	if last := f.asked("acquire")[3].params; last.text("lease") != "lease-1" || last.text("request_id") != "" {
		t.Errorf("%v", last)
	}
}

func TestAnotherLeasesRotationIsNone(t *testing.T) {
	f := newFake(t)
	c := f.client()
	mustKey(t, c)
	f.tell("rotated", field{"lease", "other"}, field{"generation", int64(9)})
	f.tell("revoked", field{"lease", "other"})
	f.tell("weather", field{"fine", true})
	f.rotate()
	f.tell("rotated", field{"lease", "lease-1"}, field{"generation", int64(2)})
	eventually(t, "the new key", func() bool { return mustKey(t, c) == fakeKey(2) })
	if n := len(f.asked("acquire")); n != 2 {
		t.Errorf("%d acquires", n)
	}
}

// The reply of an acquire is made, then the key rotates, and both arrive together.
func TestRotationDuringAnAcquireIsNotMissed(t *testing.T) {
	f := newFake(t)
	f.set(func() {
		f.answer = func(c net.Conn, m message) ([]field, []field, bool) {
			if m.method != "acquire" || m.params.text("lease") != "" {
				return nil, nil, false
			}
			told, _ := pack([]any{int64(typeNotification), "rotated",
				[]any{[]field{{"lease", "lease-1"}, {"generation", int64(2)}}}})
			answer, _ := pack([]any{int64(typeReply), int64(m.id), nil, f.credential("lease-1")})
			f.rotate()
			_, _ = c.Write(append(answer, told...))
			return nil, nil, true
		}
	})
	c := f.client()
	mustKey(t, c)
	eventually(t, "the new key", func() bool { return mustKey(t, c) == fakeKey(2) })
}

func TestRevokedIsForgotten(t *testing.T) {
	f := newFake(t)
	c := f.client()
	mustKey(t, c)
	f.tell("revoked", field{"lease", "lease-1"})
	eventually(t, "a new lease", func() bool {
		cred, err := c.Credential(ctx, "")
		return err == nil && cred.Lease == "lease-2"
	})
}

func TestRefreshInTime(t *testing.T) {
	f := newFake(t)
	f.set(func() { f.refreshAt = time.Now().Add(-time.Hour) }) // must not become a loop either
	c := f.client()
	mustKey(t, c)
	f.rotate()
	began := time.Now()
	eventually(t, "the new key", func() bool { return mustKey(t, c) == fakeKey(2) })
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("after %v", took)
	}
}

func TestRestartIsNotNoticed(t *testing.T) {
	f := newFake(t)
	c := f.client()
	mustKey(t, c)
	eventually(t, "a watch", func() bool { return len(f.asked("watch")) == 1 })
	f.stop()
	for i := 0; i < 100; i++ {
		if mustKey(t, c) != fakeKey(1) {
			t.Fatal("another key")
		}
	}
	f.start()
	eventually(t, "the lease taken up", func() bool { return len(f.asked("acquire")) == 2 })
	if again := f.asked("acquire")[1].params; again.text("lease") != "lease-1" {
		t.Errorf("%v", again)
	}
	eventually(t, "a watch", func() bool { return len(f.asked("watch")) == 2 })
}

func TestLeaderChangedConnectsAgain(t *testing.T) {
	f := newFake(t)
	c := f.client()
	mustKey(t, c)
	eventually(t, "a watch", func() bool { return len(f.asked("watch")) == 1 })
	f.tell("leader_changed", field{"instance", "b"}, field{"term", int64(2)})
	eventually(t, "another watch", func() bool { return len(f.asked("watch")) == 2 && len(f.asked("acquire")) == 2 })
}

func TestUnknownLeaseIsAcquiredAnew(t *testing.T) {
	f := newFake(t)
	f.set(func() {
		f.answer = func(_ net.Conn, m message) ([]field, []field, bool) {
			if m.params.text("lease") == "lease-1" && m.method == "acquire" {
				return nil, []field{{"code", "unknown_lease"}, {"message", "no such lease"}}, false
			}
			return nil, nil, false
		}
	})
	c := f.client()
	mustKey(t, c)
	cred, err := c.Refresh(ctx, "service")
	if err != nil || cred.Lease != "lease-2" {
		t.Errorf("%v %v", cred, err)
	}
}

// Each kind of end of a connection: the request is sent once more, by the same name.
func TestRequestUnderWayIsRepeated(t *testing.T) {
	for _, how := range []string{"hangs up", "not_leader", "restarts"} {
		t.Run(how, func(t *testing.T) {
			f := newFake(t)
			var once sync.Once
			f.set(func() {
				f.answer = func(c net.Conn, m message) (result, refusal []field, silent bool) {
					if m.method != "acquire" {
						return nil, nil, false
					}
					once.Do(func() {
						switch how {
						case "hangs up":
							c.Close()
							silent = true
						case "not_leader":
							refusal = []field{{"code", "not_leader"}, {"message", "stops"}}
						case "restarts":
							f.stop()
							time.AfterFunc(200*time.Millisecond, f.start)
							silent = true
						}
					})
					return nil, refusal, silent
				}
			})
			mustKey(t, f.client())
			asked := f.asked("acquire")
			if len(asked) != 2 {
				t.Fatalf("%d acquires", len(asked))
			}
			if a, b := asked[0].params.text("request_id"), asked[1].params.text("request_id"); a != b || a == "" {
				t.Errorf("%q, then %q", a, b)
			}
		})
	}
}

func TestExpiredIsNotServedWhileTheBrokerIsAway(t *testing.T) {
	f := newFake(t)
	f.set(func() { f.expiresAt = time.Now().Add(300 * time.Millisecond) })
	c := f.client(WithTimeout(400 * time.Millisecond))
	mustKey(t, c)
	f.stop()
	time.Sleep(time.Until(f.expiresAt))
	if _, err := c.APIKey(ctx, ""); !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrLost) {
		t.Error(err)
	}
}

func TestOnlyTheBrokersWordEndsWhatIsInMemory(t *testing.T) {
	f := newFake(t)
	c := f.client()
	mustKey(t, c)
	refuse := func(code string) {
		f.set(func() {
			f.answer = func(net.Conn, message) ([]field, []field, bool) {
				return nil, []field{{"code", code}, {"message", "no"}}, false
			}
		})
	}
	refuse("upstream_unavailable")
	if _, err := c.Refresh(ctx, ""); !errors.Is(err, ErrUpstreamUnavailable) {
		t.Error(err)
	}
	mustKey(t, c)
	refuse("denied")
	if _, err := c.Refresh(ctx, ""); !errors.Is(err, ErrDenied) {
		t.Error(err)
	}
	if key, err := c.APIKey(ctx, ""); !errors.Is(err, ErrDenied) {
		t.Error(key, err)
	}
}

func TestErrorsHaveTheBrokersWords(t *testing.T) {
	f := newFake(t)
	f.set(func() {
		f.answer = func(net.Conn, message) ([]field, []field, bool) {
			return nil, []field{{"code", "limit_exceeded"}, {"message", "too many"}, {"retry_after_ms", int64(1500)}}, false
		}
	})
	_, err := f.client().APIKey(ctx, "")
	var e *Error
	if !errors.As(err, &e) || e.Code != ErrLimitExceeded || e.RetryAfter != 1500*time.Millisecond || e.Socket != f.socket ||
		e.Message != "too many" || e.Advice == "" || errors.Is(err, ErrDenied) {
		t.Errorf("%#v", err)
	}
	for _, part := range []string{"limit_exceeded", "too many", f.socket, e.Advice} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
}

func TestCallersTimeIsTheirOwn(t *testing.T) {
	f := newFake(t)
	f.set(func() {
		f.answer = func(net.Conn, message) ([]field, []field, bool) { return nil, nil, true }
	})
	c := f.client()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := c.APIKey(short, "")
	if !errors.Is(err, ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
		t.Error(err, time.Since(began))
	}
	stopped, stop := context.WithCancel(ctx)
	stop()
	if _, err := c.APIKey(stopped, ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	f.set(func() { f.answer = nil })
	// who comes next is not hurt by those who gave up
	f.hangUp()
	mustKey(t, c)
}

func TestTimeOutSaysWhatTheTroubleWas(t *testing.T) {
	c := New()
	defer c.Close()
	c.trouble.Store(newError(ErrLost, "/s", "lost"))
	over, cancel := context.WithTimeout(ctx, 0)
	defer cancel()
	_, err := c.wait(over, &flight{})
	if !errors.Is(err, ErrLost) || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestCloseReleases(t *testing.T) {
	before := runtime.NumGoroutine()
	f := newFake(t)
	c := f.client()
	mustKey(t, c)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if released := f.asked("release"); len(released) != 1 || released[0].params.text("lease") != "lease-1" {
		t.Errorf("%v", released)
	}
	if _, err := c.APIKey(ctx, ""); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	f.stop()
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before })
}

func TestCloseEndsWhoWaits(t *testing.T) {
	f := newFake(t)
	f.set(func() {
		f.answer = func(net.Conn, message) ([]field, []field, bool) { return nil, nil, true }
	})
	c := f.client()
	waits := make(chan error)
	go func() {
		_, err := c.APIKey(ctx, "")
		waits <- err
	}()
	eventually(t, "the request", func() bool { return len(f.asked("acquire")) == 1 })
	c.Close()
	if err := <-waits; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// --- No broker ---

func environment(t *testing.T, key, baseURL, required string) {
	for name, value := range map[string]string{
		"KEYBROKER_SOCKET": "", "OPENAI_API_KEY": key, "OPENAI_BASE_URL": baseURL, "KEYBROKER_REQUIRED": required,
	} {
		t.Setenv(name, value)
	}
}

func nowhere(t *testing.T) string { return filepath.Join(t.TempDir(), "none.sock") }

func TestFallbackIsSaidOnceAndForGood(t *testing.T) {
	environment(t, "sk-environment-0000-AbCd", "https://example.org/v1", "")
	f := newFake(t)
	f.stop()
	var lines []string
	c := f.client(WithLogf(func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }))
	for _, profile := range []string{"service", "batch"} {
		cred, err := c.Credential(ctx, profile)
		if err != nil || cred.APIKey() != "sk-environment-0000-AbCd" || cred.BaseURL != "https://example.org/v1" || cred.Profile != profile {
			t.Fatalf("%v %v", cred, err)
		}
	}
	f.start()
	if cred, err := c.Refresh(ctx, "third"); err != nil || cred.Mode != "environment" {
		t.Errorf("%v %v", cred, err)
	}
	if len(lines) != 1 || !strings.Contains(lines[0], "OPENAI_API_KEY") || strings.Contains(lines[0], "0000-AbCd") {
		t.Errorf("%q", lines)
	}
	if again, err := c.Report(ctx, c.fallback.Load(), 401); err != nil || again.Mode != "environment" {
		t.Errorf("%v %v", again, err)
	}
}

func TestFallbackNeedsAnOwnersWord(t *testing.T) {
	const key = "sk-environment-0000-AbCd"
	closed := newError(ErrUnreachable, "", "x").because(syscall.EACCES)
	for name, test := range map[string]struct {
		err                error
		key, url, required string
		falls              bool
	}{
		"a key":         {newError(ErrUnreachable, "", "x"), key, "", "", true},
		"no key":        {newError(ErrUnreachable, "", "x"), "", "", "", false},
		"required":      {newError(ErrUnreachable, "", "x"), key, "", "1", false},
		"not required":  {newError(ErrUnreachable, "", "x"), key, "", "0", true},
		"closed to us":  {closed, key, "", "", false},
		"our own limit": {newError(ErrUnreachable, "", "x").because(syscall.EMFILE), key, "", "", false},
		"untrusted":     {newError(ErrUntrusted, "", "x"), key, "", "", false},
		"no URL":        {newError(ErrUnreachable, "", "x"), key, "example.org", "", false},
		"a broken key":  {newError(ErrUnreachable, "", "x"), key + "\n", "", "", false},
		"denied":        {newError(ErrDenied, "", "x"), key, "", "", false},
		"a slow broker": {newError(ErrTimeout, "", "x"), key, "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, test.key, test.url, test.required)
			c := New(WithLogf(t.Logf))
			defer c.Close()
			if c.fallBack(test.err) != test.falls {
				t.Error(!test.falls)
			}
		})
	}
}

func TestAdviceOnAClosedSocketIsItsOwners(t *testing.T) {
	f := newFake(t)
	for mode, wants := range map[os.FileMode]string{0o600: "its owner's alone", 0o660: "usermod -aG"} {
		gid := os.Getgid()
		if os.Geteuid() == 0 {
			gid = 2 // any group that has a name, but root's
		}
		if os.Chown(f.socket, -1, gid) != nil || os.Chmod(f.socket, mode) != nil {
			t.Fatal("chown or chmod of the socket")
		}
		if advice := accessAdvice(f.socket); !strings.Contains(advice, wants) {
			t.Errorf("%o: %s", mode, advice)
		}
	}
}

func TestNobodyIsWhereNothingListens(t *testing.T) {
	environment(t, "", "", "")
	path := nowhere(t)
	if _, _, err := dial(ctx, []string{path}); errors.Unwrap(err) != nil || !errors.Is(err, ErrUnreachable) {
		t.Errorf("%#v", err)
	}
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	f := newFake(t)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 3, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	_, _, err := dial(ctx, []string{f.socket})
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("%#v", err)
	}
}

func TestNoFallbackOnceThereWasABroker(t *testing.T) {
	environment(t, "sk-environment-0000-AbCd", "", "")
	f := newFake(t)
	c := f.client(WithTimeout(300 * time.Millisecond))
	mustKey(t, c)
	f.stop()
	if cred, err := c.Credential(ctx, "batch"); !errors.Is(err, ErrUnreachable) && !errors.Is(err, ErrLost) {
		t.Error(cred, err)
	}
}

// --- Finding, and trusting ---

func TestSocketsInOrder(t *testing.T) {
	uid := os.Geteuid()
	for _, test := range []struct {
		given, socket, runtime, state, home string
		want                                []string
	}{
		{"/a", "/b", "/c", "/d", "/e", []string{"/a"}},
		{"", "unix:///b", "/c", "/d", "/e", []string{"/b"}},
		{"", "", "/c", "/d", "/e", []string{"/c/keybroker/keybroker.sock", "/run/keybroker/keybroker.sock"}},
		{"", "", "", "/d", "/e", []string{fmt.Sprintf("/run/user/%d/keybroker/keybroker.sock", uid),
			"/d/keybroker/keybroker.sock", "/run/keybroker/keybroker.sock"}},
		{"", "", "", "", "/e", []string{fmt.Sprintf("/run/user/%d/keybroker/keybroker.sock", uid),
			"/e/.local/state/keybroker/keybroker.sock", "/run/keybroker/keybroker.sock"}},
	} {
		t.Setenv("KEYBROKER_SOCKET", test.socket)
		t.Setenv("XDG_RUNTIME_DIR", test.runtime)
		t.Setenv("XDG_STATE_HOME", test.state)
		t.Setenv("HOME", test.home)
		if got := sockets(test.given); strings.Join(got, " ") != strings.Join(test.want, " ") {
			t.Errorf("%v, not %v", got, test.want)
		}
	}
}

func TestUnreachableNamesWhatWasTried(t *testing.T) {
	environment(t, "", "", "")
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{
		nowhere(t): "no such file or directory", file: "socket operation on non-socket",
		"/" + strings.Repeat("x", 200): "invalid argument",
	} {
		_, err := New(WithSocket(path), WithLogf(t.Logf)).APIKey(ctx, "")
		if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), why) {
			t.Error(err)
		}
	}
}

func TestDirectoryThatOthersCanWriteTo(t *testing.T) {
	f := newFake(t)
	folder := filepath.Dir(f.socket)
	for mode, trusted := range map[os.FileMode]bool{0o777: false, 0o720: false, 0o702: false, 0o755: true, os.ModeSticky | 0o777: true} {
		if err := os.Chmod(folder, mode); err != nil {
			t.Fatal(err)
		}
		c := f.client()
		_, err := c.APIKey(ctx, "")
		if trusted != (err == nil) || !trusted && !errors.Is(err, ErrUntrusted) {
			t.Errorf("%v: %v", mode, err)
		}
		c.Close()
	}
	if n := len(f.asked("acquire")); n != 2 {
		t.Errorf("%d requests, of 2 that were trusted", n)
	}
}

func TestWhoIsTrusted(t *testing.T) {
	t.Setenv("KEYBROKER_SERVER_UID", "54321")
	for uid, want := range map[uint32]bool{0: true, uint32(os.Geteuid()): true, 54321: true, 54322: false} {
		if trusted(uid) != want {
			t.Errorf("uid %d", uid)
		}
	}
	for _, wrong := range []string{"-1", "x", "4294967295", "99999999999"} {
		t.Setenv("KEYBROKER_SERVER_UID", wrong)
		if trusted(4294967295) || trusted(1) {
			t.Errorf("%q", wrong)
		}
	}
}

func TestServerOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a directory away")
	}
	f := newFake(t)
	if err := os.Chown(filepath.Dir(f.socket), 54321, 54321); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client().APIKey(ctx, ""); !errors.Is(err, ErrUntrusted) || len(f.asked("acquire")) != 0 {
		t.Error(err)
	}
}
