package keybroker

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// conn is one connection: requests in, replies by id, notifications to notify. It ends once, with failure.
type conn struct {
	socket   string
	raw      *net.UnixConn
	notify   func(*conn, message)
	answered chan struct{} // closed at the first reply
	done     chan struct{} // closed at its end

	writing sync.Mutex
	mu      sync.Mutex
	lastID  uint32
	pending map[uint32]chan message
	heard   bool
	failure error
}

func newConn(raw *net.UnixConn, socket string, notify func(*conn, message)) *conn {
	k := &conn{
		socket: socket, raw: raw, notify: notify,
		answered: make(chan struct{}), done: make(chan struct{}), pending: map[uint32]chan message{},
	}
	go k.read()
	return k
}

// call sends a request and waits for its reply.
func (k *conn) call(ctx context.Context, method string, params []field) (table, error) {
	reply, err := k.send(ctx, method, params)
	if err != nil {
		return nil, err
	}
	select {
	case m := <-reply:
		return k.outcome(m)
	case <-ctx.Done():
		return nil, contextError(ctx, k.socket)
	case <-k.done:
	}
	select {
	case m := <-reply: // it came before the end
		return k.outcome(m)
	default:
		return nil, k.failure
	}
}

func (k *conn) outcome(m message) (table, error) {
	if m.err != nil {
		return nil, refusal(m.err, k.socket)
	}
	return m.value, nil
}

func (k *conn) send(ctx context.Context, method string, params []field) (<-chan message, error) {
	reply := make(chan message, 1)
	k.mu.Lock()
	if k.failure != nil {
		defer k.mu.Unlock()
		return nil, k.failure
	}
	k.lastID++
	id := k.lastID
	k.pending[id] = reply
	k.mu.Unlock()
	request, err := packRequest(id, method, params)
	if err != nil {
		return nil, newError(ErrInvalidRequest, k.socket, "%v", err)
	}
	k.writing.Lock()
	defer k.writing.Unlock()
	if deadline, ok := ctx.Deadline(); ok {
		_ = k.raw.SetWriteDeadline(deadline)
	}
	if _, err := k.raw.Write(request); err != nil {
		k.end(k.lost(err)) // half a request may have left
		return nil, k.failure
	}
	return reply, nil
}

// end ends the connection, for everybody who waits on it.
func (k *conn) end(why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failure == nil {
		k.failure = why
		close(k.done)
		k.raw.Close()
	}
}

func (k *conn) lost(cause error) error {
	var slow net.Error
	if errors.As(cause, &slow) && slow.Timeout() {
		return newError(ErrTimeout, k.socket, "the broker did not take a request in time")
	}
	return newError(ErrLost, k.socket, "the connection to the broker was lost: %v", whyNot(k.socket, cause)).because(cause)
}

func (k *conn) read() {
	buffer := make([]byte, 0, 4096)
	for {
		length, v := walk(buffer, replyLimits)
		switch v {
		case complete:
			if !k.take(buffer[:length]) {
				k.end(newError(ErrGarbage, k.socket, "what the server sent is neither reply nor notification"))
				return
			}
			rest := copy(buffer, buffer[length:])
			wipe(buffer[rest:])
			buffer = buffer[:rest]
			continue
		case malformed:
			k.end(newError(ErrGarbage, k.socket, "what the server sent is not the protocol of a broker"))
			return
		case tooLarge:
			k.end(newError(ErrGarbage, k.socket, "what the server sent is larger than a reply may be"))
			return
		}
		if len(buffer) == cap(buffer) {
			larger := make([]byte, len(buffer), 2*cap(buffer)) // the walker refuses what is over 64 KiB
			copy(larger, buffer)
			wipe(buffer)
			buffer = larger
		}
		n, err := k.raw.Read(buffer[len(buffer):cap(buffer)])
		if n == 0 && err != nil {
			wipe(buffer)
			k.end(k.lost(err))
			return
		}
		buffer = buffer[:len(buffer)+n]
	}
}

// take hands on one whole message; false: it is not one that a broker sends. A reply that nobody waits for is late.
func (k *conn) take(data []byte) bool {
	m, err := readMessage(data)
	if err != nil || m.kind == typeRequest {
		return false
	}
	if m.kind == typeNotification {
		k.notify(k, m)
		return true
	}
	k.mu.Lock()
	reply, asked := k.pending[m.id]
	delete(k.pending, m.id)
	if asked && !k.heard {
		k.heard = true
		close(k.answered)
	}
	k.mu.Unlock()
	if asked {
		reply <- m
	}
	return true
}

func wipe(b []byte) {
	for i := range b {
		b[i] = 0
	}
}

// contextError: a deadline is a time-out of ours, a cancellation the caller's own doing.
func contextError(ctx context.Context, socket string) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return newError(ErrTimeout, socket, "the broker did not answer in time").because(ctx.Err())
}

// sleep is false if the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
