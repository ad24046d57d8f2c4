package keybroker

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Code says what went wrong. It is an error itself, to be compared with:
//
//	errors.Is(err, keybroker.ErrDenied)
type Code string

// The broker's own codes, and those of the client: ErrUnreachable (no socket accepts), ErrUntrusted (somebody else serves
// it), ErrTimeout, ErrLost (the connection ended), ErrGarbage (what answers is no broker), ErrClosed (by Close).
const (
	ErrInvalidRequest      Code = "invalid_request"
	ErrDenied              Code = "denied"
	ErrUnknownProfile      Code = "unknown_profile"
	ErrUnknownLease        Code = "unknown_lease"
	ErrLimitExceeded       Code = "limit_exceeded"
	ErrUpstreamUnavailable Code = "upstream_unavailable"
	ErrUpstreamRefused     Code = "upstream_refused"
	ErrAuditUnavailable    Code = "audit_unavailable"
	ErrNotLeader           Code = "not_leader"
	ErrInternal            Code = "internal"

	ErrUnreachable Code = "unreachable"
	ErrUntrusted   Code = "untrusted"
	ErrTimeout     Code = "timeout"
	ErrLost        Code = "lost"
	ErrGarbage     Code = "garbage"
	ErrClosed      Code = "closed"
)

func (c Code) Error() string { return "keybroker: " + string(c) }

var advice = map[Code]string{
	ErrInvalidRequest:      "Correct the profile's name, or update this library: repeating is useless.",
	ErrDenied:              "Ask the administrator; `keybroker explain PROFILE` shows what the broker sees of a process and why no rule fits.",
	ErrUnknownProfile:      "`keybroker list` shows the profiles that you may have.",
	ErrUnknownLease:        "Ask again: it has ended.",
	ErrLimitExceeded:       "Close clients that are not needed, or try again later.",
	ErrUpstreamUnavailable: "Try again later; `keybroker status` shows how LiteLLM is.",
	ErrUpstreamRefused:     "If it is about a team, models, budget or duration, the profile must be changed.",
	ErrAuditUnavailable:    "Try again later; the broker's log and disk may say more.",
	ErrNotLeader:           "Try again: the broker is stopping or restarting.",
	ErrInternal:            "The broker's log says more.",
	ErrUnreachable:         "Start a broker with `keybrokerd`, or name its socket by KEYBROKER_SOCKET or WithSocket.",
	ErrUntrusted:           "If that server is right, set KEYBROKER_SERVER_UID to its uid.",
	ErrTimeout:             "See whether the broker is running and not stopped.",
	ErrLost:                "Try again; if it goes on, this uid may have too many connections open.",
	ErrGarbage:             "See what serves that socket.",
	ErrClosed:              "Use a client that is not closed.",
}

// Error is what each call of this package fails with, but for a context that was cancelled (context.Canceled).
type Error struct {
	Code       Code
	Message    string        // the broker's, or what happened; holds no key
	Advice     string        // what to do
	Socket     string        // the one that was tried, the first of several (Message names them)
	RetryAfter time.Duration // 0: the broker did not say

	cause error
}

func (e *Error) Error() string {
	text := "keybroker: " + string(e.Code) + ": " + e.Message
	if e.Socket != "" && !strings.Contains(e.Message, e.Socket) {
		text += " (" + e.Socket + ")"
	}
	return strings.TrimSuffix(text, ".") + ". " + e.Advice
}

// Is makes errors.Is(err, ErrDenied) work.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.Code
}

// Unwrap is the error of the operating system or context behind it, if there is one.
func (e *Error) Unwrap() error { return e.cause }

func newError(code Code, socket, format string, args ...any) *Error {
	return &Error{Code: code, Message: maskIn(fmt.Sprintf(format, args...)), Advice: advice[code], Socket: socket}
}

func (e *Error) because(cause error) *Error {
	e.cause = cause
	return e
}

// refusal is the error of a reply. An unknown code reads as internal.
func refusal(t table, socket string) *Error {
	code := Code(t.text("code"))
	if _, known := advice[code]; !known {
		code = ErrInternal
	}
	text := t.text("message")
	if text == "" {
		text = "no reason given"
	}
	e := newError(code, socket, "%s", text)
	if ms := t.integer("retry_after_ms"); ms > 0 {
		e.RetryAfter = milliseconds(ms)
	}
	return e
}

// milliseconds, a day at most: what comes over the wire may be any number.
func milliseconds(ms int64) time.Duration {
	const day = 24 * time.Hour
	if ms > day.Milliseconds() {
		return day
	}
	return time.Duration(ms) * time.Millisecond
}

var keyText = regexp.MustCompile(`sk-[A-Za-z0-9_-]{8,}`)

// maskIn hides keys in somebody else's words.
func maskIn(text string) string { return keyText.ReplaceAllStringFunc(text, mask) }

// mask is all that is ever shown of a key: sk-…AbCd.
func mask(key string) string {
	const shown = 4
	masked := "…"
	if strings.HasPrefix(key, "sk-") {
		masked = "sk-…"
	}
	if len(key) >= 4*shown {
		masked += key[len(key)-shown:]
	}
	return masked
}
