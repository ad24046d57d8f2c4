package keybroker

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// good is what a broker would answer to an acquire.
func good(id uint32, change ...field) []byte {
	fields := (&fake{generation: 1, baseURL: "http://127.0.0.1:9/v1"}).credential("lease-1")
	for _, other := range change {
		for i := range fields {
			if fields[i].name == other.name {
				fields[i].value = other.value
			}
		}
		fields = append(fields, other)
	}
	data, err := pack([]any{int64(typeReply), int64(id), nil, fields})
	if err != nil {
		panic(err)
	}
	return data
}

func TestHostileServers(t *testing.T) {
	head := func(id uint32) []byte { return append([]byte{0x94, 1}, byte(id), 0xc0) }
	raw := func(data []byte) func(io.Writer, uint32) {
		return func(c io.Writer, _ uint32) { _, _ = c.Write(data) }
	}
	instead := func(name string, value any) func(io.Writer, uint32) {
		return func(c io.Writer, id uint32) { _, _ = c.Write(good(id, field{name, value})) }
	}
	for name, test := range map[string]struct {
		answer func(c io.Writer, id uint32)
		code   Code
	}{
		"silent":  {func(io.Writer, uint32) {}, ErrTimeout},
		"half":    {func(c io.Writer, id uint32) { _, _ = c.Write(good(id)[:20]) }, ErrTimeout},
		"http":    {raw([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")), ErrGarbage},
		"garbage": {raw(bytes.Repeat([]byte{0xc1}, 64)), ErrGarbage},
		"deep":    {func(c io.Writer, id uint32) { _, _ = c.Write(append(head(id), bytes.Repeat([]byte{0x91}, 60000)...)) }, ErrGarbage},
		"claims":  {func(c io.Writer, id uint32) { _, _ = c.Write(append(head(id), 0xdf, 0xff, 0xff, 0xff, 0xff)) }, ErrGarbage},
		"float": {func(c io.Writer, id uint32) {
			_, _ = c.Write(append(head(id), 0x81, 0xa1, 'x', 0xcb, 0, 0, 0, 0, 0, 0, 0, 0))
		}, ErrGarbage},
		"long":        {instead("models", string(bytes.Repeat([]byte("x"), 70000))), ErrGarbage},
		"a request":   {func(c io.Writer, id uint32) { _, _ = c.Write([]byte{0x94, 0, byte(id), 0xa1, 'm', 0x90}) }, ErrGarbage},
		"no result":   {func(c io.Writer, id uint32) { _, _ = c.Write(append(head(id), 0xc0)) }, ErrGarbage},
		"both":        {func(c io.Writer, id uint32) { _, _ = c.Write([]byte{0x94, 1, byte(id), 0x80, 0x80}) }, ErrGarbage},
		"no key":      {instead("api_key", nil), ErrGarbage},
		"key number":  {instead("api_key", int64(17)), ErrGarbage},
		"key header":  {instead("api_key", "sk-1234567890\r\nX: y"), ErrGarbage},
		"no lease":    {instead("lease", ""), ErrGarbage},
		"base path":   {instead("base_url", "/v1"), ErrGarbage},
		"base file":   {instead("base_url", "file://host/v1"), ErrGarbage},
		"not UTF-8":   {instead("base_url", "http://\xff\xfe"), ErrGarbage},
		"NUL":         {instead("mode", "a\x00b"), ErrGarbage},
		"expiry text": {instead("expires_at_ms", "soon"), ErrGarbage},
		"other code": {func(c io.Writer, id uint32) {
			data, _ := pack([]any{int64(typeReply), int64(id), []field{{"code", "wibble"}}, nil})
			_, _ = c.Write(data)
		}, ErrInternal},
		"byte by byte": {func(c io.Writer, id uint32) {
			for _, b := range good(id) {
				if _, err := c.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}, ErrTimeout},
		"late": {func(c io.Writer, id uint32) {
			time.Sleep(time.Second)
			_, _ = c.Write(good(id))
		}, ErrTimeout},
		"hangs up": {func(c io.Writer, _ uint32) { c.(io.Closer).Close() }, ErrLost},
		"truncated": {func(c io.Writer, id uint32) {
			_, _ = c.Write(good(id)[:20])
			c.(io.Closer).Close()
		}, ErrLost},
	} {
		test := test
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := badServer(t, test.answer)
			c := f.client(WithTimeout(500 * time.Millisecond))
			began := time.Now()
			_, err := c.APIKey(ctx, "")
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			var e *Error
			if !errors.As(err, &e) || e.Code != test.code || e.Socket != f.socket || e.Advice == "" {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestFirstOfTwoEqualKeysCounts(t *testing.T) {
	data, _ := pack([]any{int64(typeNotification), "m", []any{[]field{{"a", "first"}, {"a", "second"}}}})
	m, err := readMessage(data)
	if err != nil || m.params.text("a") != "first" {
		t.Error(m.params, err)
	}
}

// What nobody asked for is not taken for an answer.
func TestStrangeAnswersAreIgnored(t *testing.T) {
	f := badServer(t, func(c io.Writer, id uint32) {
		_, _ = c.Write(good(id+1000, field{"api_key", "sk-another-one"}))
		_, _ = c.Write([]byte{0x93, 2, 0xa1, 'm', 0x90})
		_, _ = c.Write(good(id))
	})
	if key := mustKey(t, f.client()); key != fakeKey(1) {
		t.Error(key)
	}
}

// One that hangs up on everybody, though there is a key to keep, is not asked without end.
func TestHangingUpIsNotALoop(t *testing.T) {
	f := newFake(t)
	c := f.client()
	mustKey(t, c)
	f.stop()
	listener, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var accepted int32
	go func() {
		for {
			k, err := listener.Accept()
			if err != nil {
				return
			}
			atomic.AddInt32(&accepted, 1)
			k.Close()
		}
	}()
	time.Sleep(time.Second)
	if n := atomic.LoadInt32(&accepted); n < 2 || n > 30 {
		t.Errorf("%d connections in a second", n)
	}
	mustKey(t, c)
}
