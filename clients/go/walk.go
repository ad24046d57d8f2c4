package keybroker

import (
	"bytes"
	"unicode/utf8"
)

// limits are what one message may claim (proto/PROTOCOL.md, "Limits").
type limits struct{ bytes, depth, values uint64 }

var (
	requestLimits = limits{16 << 10, 6, 256}
	replyLimits   = limits{64 << 10, 8, 4096}
)

type verdict int

const (
	complete   verdict = iota
	incomplete         // more bytes are needed; nothing is wrong so far
	malformed
	tooLarge
)

type kind byte

const (
	kindBad kind = iota
	kindNil
	kindBool
	kindInt
	kindText
	kindBin
	kindArray
	kindMap
)

// token is one header. number is the value of an integer that is not negative, else a count of bytes, elements or pairs.
type token struct {
	kind     kind
	number   uint64
	negative bool
}

// longForms are the headers 0xc0 to 0xdf: what they open, and how many bytes of size or value follow.
var longForms = [32]struct {
	kind  kind
	extra uint64
}{
	0x00: {kindNil, 0}, 0x02: {kindBool, 0}, 0x03: {kindBool, 0},
	0x04: {kindBin, 1}, 0x05: {kindBin, 2}, 0x06: {kindBin, 4},
	0x0c: {kindInt, 1}, 0x0d: {kindInt, 2}, 0x0e: {kindInt, 4}, 0x0f: {kindInt, 8},
	0x10: {kindInt, 1}, 0x11: {kindInt, 2}, 0x12: {kindInt, 4}, 0x13: {kindInt, 8},
	0x19: {kindText, 1}, 0x1a: {kindText, 2}, 0x1b: {kindText, 4},
	0x1c: {kindArray, 2}, 0x1d: {kindArray, 4}, 0x1e: {kindMap, 2}, 0x1f: {kindMap, 4},
}

// walker reads the headers of one message, so that sizes, counts and depth are known to be within bounds before
// the MessagePack library, which allocates what a header claims, sees a byte.
type walker struct {
	data   []byte
	pos    uint64
	limits limits
	values uint64 // seen
	owed   uint64 // that the open containers still need
}

// walk finds the end of the message that data begins with.
func walk(data []byte, l limits) (length int, v verdict) {
	w := walker{data: data, limits: l}
	v = w.message()
	return int(w.pos), v
}

func (w *walker) need(n uint64) verdict {
	switch {
	case n > w.limits.bytes-w.pos:
		return tooLarge
	case n > uint64(len(w.data))-w.pos:
		return incomplete
	}
	return complete
}

func (w *walker) header() (token, verdict) {
	if v := w.need(1); v != complete {
		return token{}, v
	}
	b := w.data[w.pos]
	w.pos++
	switch {
	case b < 0x80:
		return token{kind: kindInt, number: uint64(b)}, complete
	case b < 0x90:
		return token{kind: kindMap, number: uint64(b & 0x0f)}, complete
	case b < 0xa0:
		return token{kind: kindArray, number: uint64(b & 0x0f)}, complete
	case b < 0xc0:
		return token{kind: kindText, number: uint64(b & 0x1f)}, complete
	case b >= 0xe0:
		return token{kind: kindInt, negative: true}, complete
	}
	form := longForms[b-0xc0]
	if form.kind == kindBad {
		return token{}, malformed
	}
	if v := w.need(form.extra); v != complete {
		return token{}, v
	}
	t := token{kind: form.kind, negative: b >= 0xd0 && b <= 0xd3 && w.data[w.pos] >= 0x80}
	for end := w.pos + form.extra; w.pos < end; w.pos++ {
		t.number = t.number<<8 | uint64(w.data[w.pos])
	}
	return t, complete
}

// token reads one header, skips the bytes of text and bin, and holds what it claims against the limits.
func (w *walker) token() (token, verdict) {
	t, v := w.header()
	if v != complete {
		return t, v
	}
	var size uint64
	w.values++
	if w.owed > 0 {
		w.owed--
	}
	switch t.kind {
	case kindArray:
		w.owed += t.number
	case kindMap:
		w.owed += 2 * t.number
	case kindText, kindBin:
		size = t.number
	}
	// each value that is owed takes a byte at least, so a claim is refused when it is made
	if w.values+w.owed > w.limits.values || size+w.owed > w.limits.bytes-w.pos {
		return t, tooLarge
	}
	if v := w.need(size); v != complete {
		return t, v
	}
	text := w.data[w.pos : w.pos+size]
	w.pos += size
	if t.kind == kindText && (!utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0) {
		return t, malformed
	}
	return t, complete
}

// inside walks what a container holds; other tokens hold nothing.
func (w *walker) inside(t token, depth uint64) verdict {
	n := t.number
	switch t.kind {
	case kindMap:
		n *= 2
	case kindArray:
	default:
		return complete
	}
	if depth > w.limits.depth {
		return tooLarge
	}
	for i := uint64(0); i < n; i++ {
		inner, v := w.token()
		if v != complete {
			return v
		}
		if t.kind == kindMap && i%2 == 0 && inner.kind != kindText {
			return malformed
		}
		if v := w.inside(inner, depth+1); v != complete {
			return v
		}
	}
	return complete
}

// The parts of a message after its type.
func (w *walker) id() verdict {
	t, v := w.token()
	if v == complete && (t.kind != kindInt || t.negative || t.number > 1<<32-1) {
		return malformed
	}
	return v
}

func (w *walker) method() verdict {
	t, v := w.token()
	if v == complete && (t.kind != kindText || t.number > 32) {
		return malformed
	}
	return v
}

func (w *walker) params() verdict {
	t, v := w.token()
	if v != complete {
		return v
	}
	if t.kind != kindArray || t.number > 1 {
		return malformed
	}
	if t.number == 0 {
		return complete
	}
	return w.mapOrNil(3)
}

func (w *walker) outcome() verdict { return w.mapOrNil(2) }

func (w *walker) mapOrNil(depth uint64) verdict {
	t, v := w.token()
	if v != complete {
		return v
	}
	if t.kind != kindMap && t.kind != kindNil {
		return malformed
	}
	return w.inside(t, depth)
}

// shapes by message type.
var shapes = [][]func(*walker) verdict{
	typeRequest:      {(*walker).id, (*walker).method, (*walker).params},
	typeReply:        {(*walker).id, (*walker).outcome, (*walker).outcome},
	typeNotification: {(*walker).method, (*walker).params},
}

func (w *walker) message() verdict {
	array, v := w.token()
	if v != complete {
		return v
	}
	if array.kind != kindArray || array.number < 3 || array.number > 4 {
		return malformed
	}
	t, v := w.token()
	if v != complete {
		return v
	}
	if t.kind != kindInt || t.negative || t.number >= uint64(len(shapes)) || array.number != uint64(len(shapes[t.number])+1) {
		return malformed
	}
	for _, part := range shapes[t.number] {
		if v := part(w); v != complete {
			return v
		}
	}
	return complete
}
