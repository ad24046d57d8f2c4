package keybroker

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// Transport gives the profile's key to requests of its base URL's origin, and to no other. If the answer is 401 it
// reports that, and sends the request once more if there is another key by then and the body can be read again
// (http.Request.GetBody). The request itself is never changed. A nil base is http.DefaultTransport.
func (c *Client) Transport(profile string, base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{c, profile, base}
}

type transport struct {
	client  *Client
	profile string
	base    http.RoundTripper
}

const bearer = "Bearer "

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	cred, err := t.client.Credential(r.Context(), t.profile)
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	if originOf(r.URL) != cred.origin {
		return t.base.RoundTrip(without(r, cred))
	}
	first, body := with(r, cred, r.Body)
	answer, err := t.base.RoundTrip(first)
	if err != nil {
		return nil, err
	}
	answer.Request = r // which has no key
	if answer.StatusCode != http.StatusUnauthorized {
		return answer, nil
	}
	next, err := t.client.Report(r.Context(), cred, answer.StatusCode)
	if err != nil || next.APIKey() == cred.APIKey() || next.origin != cred.origin {
		return answer, nil
	}
	again, ok := reread(r, body, answer, t.client.timeout)
	if !ok {
		return answer, nil
	}
	second, _ := with(r, next, again)
	answer, err = t.base.RoundTrip(second)
	if err != nil {
		return nil, err
	}
	answer.Request = r
	return answer, nil
}

// CloseIdleConnections is for http.Client's method of that name.
func (t *transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// with is a copy of the request with the key in it. Its body tells when it is closed, which can be after RoundTrip.
func with(r *http.Request, cred *Credential, body io.ReadCloser) (*http.Request, *watchedBody) {
	r = r.Clone(r.Context())
	if r.Header == nil {
		r.Header = make(http.Header)
	}
	r.Header.Set("Authorization", bearer+cred.APIKey())
	if body == nil || body == http.NoBody {
		return r, nil
	}
	watched := &watchedBody{ReadCloser: body, closed: make(chan struct{})}
	r.Body = watched
	return r, watched
}

// without is the request, but for a key of ours that http.Client has taken along to another host.
func without(r *http.Request, cred *Credential) *http.Request {
	if r.Header.Get("Authorization") != bearer+cred.APIKey() {
		return r
	}
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	return r
}

// reread is the request's body from its beginning, once the first attempt has let go of it; false: there is no such
// thing, and the first answer stays as it is.
func reread(r *http.Request, sent *watchedBody, first *http.Response, patience time.Duration) (io.ReadCloser, bool) {
	const refusal = 64 << 10 // more than that is not kept of a 401
	if sent == nil {
		first.Body.Close()
		return r.Body, true
	}
	if r.GetBody == nil {
		return nil, false
	}
	text, _ := io.ReadAll(io.LimitReader(first.Body, refusal))
	first.Body.Close() // or the rest of the request may go on being sent
	first.Body = io.NopCloser(bytes.NewReader(text))
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	select {
	case <-sent.closed:
	case <-ctx.Done():
		return nil, false
	}
	body, err := r.GetBody()
	return body, err == nil
}

type watchedBody struct {
	io.ReadCloser
	once   sync.Once
	closed chan struct{}
}

func (b *watchedBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(func() { close(b.closed) })
	return err
}
