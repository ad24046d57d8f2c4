package keybroker

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

const (
	typeRequest      = 0
	typeReply        = 1
	typeNotification = 2
)

// field is one member of a request's map; the order is the caller's.
type field struct {
	name  string
	value any // string, int64, bool, nil, []any or []field
}

// packRequest makes a request in the shortest forms.
func packRequest(id uint32, method string, params []field) ([]byte, error) {
	data, err := pack([]any{int64(typeRequest), int64(id), method, []any{params}})
	if err == nil && len(data) > requestMax {
		err = fmt.Errorf("a request has at most %d bytes, and this one %d", requestMax, len(data))
	}
	return data, err
}

const requestMax = 16 << 10 // proto/PROTOCOL.md, "Limits"

func pack(v any) ([]byte, error) {
	var b bytes.Buffer
	err := packValue(msgpack.NewEncoder(&b), v)
	return b.Bytes(), err
}

func packValue(e *msgpack.Encoder, v any) error {
	switch v := v.(type) {
	case nil:
		return e.EncodeNil()
	case bool:
		return e.EncodeBool(v)
	case int64:
		return e.EncodeInt(v)
	case string:
		return e.EncodeString(v)
	case []any:
		if err := e.EncodeArrayLen(len(v)); err != nil {
			return err
		}
		for _, item := range v {
			if err := packValue(e, item); err != nil {
				return err
			}
		}
		return nil
	case []field:
		if err := e.EncodeMapLen(len(v)); err != nil {
			return err
		}
		for _, f := range v {
			if err := e.EncodeString(f.name); err != nil {
				return err
			}
			if err := packValue(e, f.value); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%T cannot be packed", v)
}

// table is a map of a message, and reads its members; absent and nil are the same.
type table map[string]any

func (t table) text(name string) string {
	s, _ := t[name].(string)
	return s
}

func (t table) integer(name string) int64 {
	n, _ := integer(t[name])
	return n
}

func integer(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case uint64:
		return int64(n), n < 1<<63
	}
	return 0, false
}

// message is a reply or a notification, or, for what a broker reads, a request.
type message struct {
	kind       int64
	id         uint32
	method     string
	params     table
	err, value table // of a reply; one of them is nil
}

var errShape = errors.New("a reply has either an error or a result")

// readMessage takes apart a message that walk has found complete.
func readMessage(data []byte) (message, error) {
	v, err := readValue(msgpack.NewDecoder(bytes.NewReader(data)))
	if err != nil {
		return message{}, err
	}
	parts := v.([]any)
	m := message{}
	m.kind, _ = integer(parts[0])
	if m.kind != typeNotification {
		id, _ := integer(parts[1])
		m.id = uint32(id)
	}
	last := parts[len(parts)-1]
	if m.kind != typeReply {
		m.method, _ = parts[len(parts)-2].(string)
		m.params = onlyParams(last)
		return m, nil
	}
	m.err, _ = parts[2].(table)
	m.value, _ = last.(table)
	if (m.err == nil) == (m.value == nil) {
		return message{}, errShape
	}
	return m, nil
}

func onlyParams(v any) table {
	if list, _ := v.([]any); len(list) == 1 {
		if t, ok := list[0].(table); ok {
			return t
		}
	}
	return table{}
}

func readValue(d *msgpack.Decoder) (any, error) {
	code, err := d.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case msgpcode.IsFixedMap(code), code == msgpcode.Map16, code == msgpcode.Map32:
		return readMap(d)
	case msgpcode.IsFixedArray(code), code == msgpcode.Array16, code == msgpcode.Array32:
		n, err := d.DecodeArrayLen()
		list := make([]any, 0, n)
		for i := 0; i < n && err == nil; i++ {
			var v any
			v, err = readValue(d)
			list = append(list, v)
		}
		return list, err
	case msgpcode.IsBin(code):
		return d.DecodeBytes()
	}
	return d.DecodeInterfaceLoose()
}

// readMap lets the first of two equal keys count.
func readMap(d *msgpack.Decoder) (table, error) {
	n, err := d.DecodeMapLen()
	t := make(table, n)
	for i := 0; i < n && err == nil; i++ {
		var key string
		if key, err = d.DecodeString(); err != nil {
			break
		}
		var v any
		v, err = readValue(d)
		if _, again := t[key]; !again {
			t[key] = v
		}
	}
	return t, err
}
