package keybroker

import (
	"crypto/rand"
	"math/big"
	"sync"
	"time"
)

// backoff is how long to wait before the next attempt: not at all, then 50 ms doubling to 5 s, each with jitter.
type backoff struct {
	mu    sync.Mutex
	pause time.Duration
}

func (b *backoff) next() time.Duration {
	const first, most = 50 * time.Millisecond, 5 * time.Second
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.pause
	b.pause = 2 * d
	if b.pause < first {
		b.pause = first
	}
	if b.pause > most {
		b.pause = most
	}
	return d/2 + random(d/2+1)
}

func (b *backoff) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause = 0
}

func random(below time.Duration) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(below)))
	if err != nil {
		return 0
	}
	return time.Duration(n.Int64())
}
