package keybroker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Credential is a key as it was when it was asked for. It prints as sk-…AbCd, whatever the verb.
type Credential struct {
	Profile    string
	Mode       string // shared, dedicated, static; environment: there is no broker, and this is OPENAI_API_KEY
	Lease      string
	BaseURL    string // of the OpenAI-compatible API, with its path
	Models     []string
	Generation int64     // of a shared profile's key; else 0
	ExpiresAt  time.Time // zero: never
	KeyHash    string    // the first 8 hex digits of the key's SHA-256

	refreshAt time.Time
	origin    origin
	key       func() string // a function, since fmt and its like can only print its address
}

// APIKey is the secret.
func (c *Credential) APIKey() string { return c.key() }

// String has no more of the key than its last four characters.
func (c Credential) String() string {
	return fmt.Sprintf("keybroker.Credential{%s %s at %s}", c.Profile, c.masked(), c.BaseURL)
}

// GoString is String.
func (c Credential) GoString() string { return c.String() }

// MarshalJSON has no more of the key than its last four characters.
func (c Credential) MarshalJSON() ([]byte, error) {
	shown := map[string]any{
		"profile": c.Profile, "mode": c.Mode, "lease": c.Lease, "base_url": c.BaseURL, "models": c.Models,
		"generation": c.Generation, "key_hash": c.KeyHash, "api_key": c.masked(),
	}
	if !c.ExpiresAt.IsZero() {
		shown["expires_at"] = c.ExpiresAt
	}
	return json.Marshal(shown)
}

func (c Credential) masked() string {
	if c.key == nil {
		return "no key"
	}
	return mask(c.key())
}

func (c *Credential) valid() bool {
	return c != nil && (c.ExpiresAt.IsZero() || time.Now().Before(c.ExpiresAt))
}

func keep(key string) func() string { return func() string { return key } }

// readCredential reads the result of an acquire.
func readCredential(t table, profile, socket string) (*Credential, error) {
	c := &Credential{
		Profile: profile, Mode: t.text("mode"), Lease: t.text("lease"), BaseURL: t.text("base_url"),
		Generation: t.integer("generation"), KeyHash: t.text("key_hash"), key: keep(t.text("api_key")),
	}
	models, _ := t["models"].([]any)
	for _, model := range models {
		if name, ok := model.(string); ok {
			c.Models = append(c.Models, name)
		}
	}
	var isURL, expires, refresh bool
	c.origin, isURL = originOfText(c.BaseURL)
	c.ExpiresAt, expires = moment(t["expires_at_ms"])
	c.refreshAt, refresh = moment(t["refresh_at_ms"])
	if c.Lease == "" || !visible(c.APIKey()) || !isURL || !expires || !refresh {
		return nil, newError(ErrGarbage, socket, "the reply lacks lease, key or base URL, or has a time that is none")
	}
	return c, nil
}

// moment is a time that may be absent.
func moment(v any) (time.Time, bool) {
	if ms, ok := integer(v); ok {
		return time.UnixMilli(ms), true
	}
	return time.Time{}, v == nil
}

// environmentCredential is the one that a program without a broker would use; nil if there is none.
func environmentCredential() *Credential {
	key, base := environ("OPENAI_API_KEY"), environ("OPENAI_BASE_URL")
	if base == "" {
		base = "https://api.openai.com/v1"
	}
	o, ok := originOfText(base)
	if !ok || !visible(key) {
		return nil
	}
	hash := sha256.Sum256([]byte(key))
	return &Credential{Mode: "environment", BaseURL: base, KeyHash: hex.EncodeToString(hash[:4]), origin: o, key: keep(key)}
}

// visible: a key goes into a header, so it is printable ASCII without spaces.
func visible(key string) bool {
	for i := 0; i < len(key); i++ {
		if key[i] <= ' ' || key[i] > '~' {
			return false
		}
	}
	return key != ""
}

// origin is who gets the key.
type origin struct{ scheme, host, port string }

func originOf(u *url.URL) origin {
	o := origin{strings.ToLower(u.Scheme), strings.ToLower(u.Hostname()), u.Port()}
	if o.port == "" {
		o.port = map[string]string{"http": "80", "https": "443"}[o.scheme]
	}
	return o
}

func originOfText(text string) (origin, bool) {
	u, err := url.Parse(text)
	if err != nil {
		return origin{}, false
	}
	o := originOf(u)
	return o, o.host != "" && (o.scheme == "http" || o.scheme == "https")
}
