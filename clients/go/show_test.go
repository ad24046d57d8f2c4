package keybroker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const crashing = "KEYBROKER_TEST_CRASH"

func TestNothingShowsAKey(t *testing.T) {
	f := newFake(t)
	c := f.client()
	key := mustKey(t, c)
	cred, err := c.Credential(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	f.set(func() {
		f.answer = func(net.Conn, message) ([]field, []field, bool) {
			return nil, []field{{"code", "upstream_refused"}, {"message", "User Key=" + key + " is blocked"}}, false
		}
	})
	_, refused := c.Credential(ctx, "other")
	holder := struct {
		credential Credential
		pointer    *Credential
		err        error
	}{*cred, cred, refused}
	for _, thing := range []any{c, cred, *cred, refused, holder, &holder, []any{c, cred, *cred, refused}, map[string]any{"a": *cred}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			text := fmt.Sprintf(verb, thing)
			if strings.Contains(text, key) || strings.Contains(text, fmt.Sprintf("%x", key)) {
				t.Errorf("%s: %s", verb, text)
			}
		}
		if text, err := json.Marshal(thing); err != nil || strings.Contains(string(text), key) {
			t.Errorf("%s %v", text, err)
		}
	}
	for _, thing := range []any{cred, *cred, refused} {
		if text := fmt.Sprint(thing); !strings.Contains(text, "sk-…0001") {
			t.Error(text)
		}
	}
	if text, _ := json.Marshal(cred); !strings.Contains(string(text), `"api_key":"sk-…0001"`) {
		t.Errorf("%s", text)
	}
}

func TestCrashShowsNoKey(t *testing.T) {
	if how := os.Getenv(crashing); how != "" {
		cred, _ := readCredential(table{"lease": "l", "api_key": fakeKey(1), "base_url": "http://h"}, "service", "")
		if how == "value" {
			panic(*cred)
		}
		panic(cred)
	}
	for _, how := range []string{"value", "pointer"} {
		child := exec.Command(os.Args[0], "-test.run=^TestCrashShowsNoKey$")
		child.Env = append(os.Environ(), crashing+"="+how)
		out, err := child.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "panic: ") || strings.Contains(string(out), fakeKey(1)) {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func TestMask(t *testing.T) {
	for key, want := range map[string]string{
		"sk-1234567890123AbCd": "sk-…AbCd", "sk-short": "sk-…", "0123456789abcdef": "…cdef", "": "…",
	} {
		if got := mask(key); got != want {
			t.Errorf("%q: %q", key, got)
		}
	}
	if got := maskIn("key sk-1234567890123AbCd, key sk-x"); got != "key sk-…AbCd, key sk-x" {
		t.Error(got)
	}
}

func TestCodes(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", newError(ErrDenied, "/s", "no"))
	if !errors.Is(err, ErrDenied) || errors.Is(err, ErrTimeout) || ErrDenied.Error() != "keybroker: denied" {
		t.Error(err)
	}
}

func BenchmarkAPIKey(b *testing.B) {
	f := newFake(b)
	c := f.client()
	for i := 0; i < b.N; i++ {
		if _, err := c.APIKey(ctx, "service"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAcquire(b *testing.B) {
	f := newFake(b)
	c := f.client()
	for i := 0; i < b.N; i++ {
		if _, err := c.Refresh(ctx, "service"); err != nil {
			b.Fatal(err)
		}
	}
}
