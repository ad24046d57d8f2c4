package keybroker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// environ is the environment, which a setuid program must not believe.
func environ(name string) string {
	if os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		return ""
	}
	return os.Getenv(name)
}

// sockets are the places where a broker may listen (proto/PROTOCOL.md, "Finding the broker").
func sockets(given string) []string {
	if given == "" {
		given = environ("KEYBROKER_SOCKET")
	}
	// who names a socket means that one: another broker would hand out other keys
	if given != "" {
		return []string{strings.TrimPrefix(given, "unix://")}
	}
	const name = "keybroker/keybroker.sock"
	var paths []string
	if runtime := environ("XDG_RUNTIME_DIR"); runtime != "" {
		paths = append(paths, filepath.Join(runtime, name))
	} else {
		paths = append(paths, fmt.Sprintf("/run/user/%d/%s", os.Geteuid(), name))
		if state := environ("XDG_STATE_HOME"); state != "" {
			paths = append(paths, filepath.Join(state, name))
		} else if home := environ("HOME"); home != "" {
			paths = append(paths, filepath.Join(home, ".local/state", name))
		}
	}
	return append(paths, "/run/"+name)
}

// dial connects to the first socket that accepts, and checks who serves it.
func dial(ctx context.Context, paths []string) (*net.UnixConn, string, error) {
	var tried []string
	var closed string
	var somebody error
	for _, path := range paths {
		c, err := dialOne(ctx, path)
		if err == nil {
			if err := trust(c, path); err != nil {
				c.Close()
				return nil, path, err
			}
			return c, path, nil
		}
		var slow net.Error
		if ctx.Err() != nil || errors.As(err, &slow) && slow.Timeout() {
			<-ctx.Done() // the dialer has a timer of its own
			return nil, path, contextError(ctx, path)
		}
		err = whyNot(path, err)
		tried = append(tried, path+": "+err.Error())
		if errors.Is(err, fs.ErrPermission) {
			closed = path
		}
		if !isNobody(err) {
			somebody = err
		}
	}
	e := newError(ErrUnreachable, "", "no broker accepts connections (%s)", strings.Join(tried, "; "))
	e.Socket = paths[0]
	if closed != "" {
		e.Advice = accessAdvice(closed)
	}
	return nil, e.Socket, e.because(somebody)
}

// accessAdvice: only a socket that is made for a group asks for its members; any other is its owner's own.
func accessAdvice(path string) string {
	if info, err := os.Stat(path); err == nil && info.Mode()&0o020 != 0 {
		if gid := info.Sys().(*syscall.Stat_t).Gid; gid != 0 {
			if group, err := user.LookupGroupId(strconv.Itoa(int(gid))); err == nil {
				return fmt.Sprintf("Join the group %[1]s (`sudo usermod -aG %[1]s $USER`, then log in again).", group.Name)
			}
		}
	}
	return "That broker is its owner's alone: start one of your own with `keybrokerd`."
}

// isNobody tells whether nobody listens there; anything else is somebody, or trouble of our own.
func isNobody(err error) bool {
	for _, nobody := range []error{syscall.ENOENT, syscall.ENOTDIR, syscall.ECONNREFUSED, syscall.ENOTSOCK} {
		if errors.Is(err, nobody) {
			return true
		}
	}
	return false
}

func dialOne(ctx context.Context, path string) (*net.UnixConn, error) {
	if strings.HasPrefix(path, "@") {
		path = "./" + path // which Go would take for an abstract socket
	}
	for {
		c, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return c.(*net.UnixConn), nil
		}
		// the backlog is full, and there is nothing to poll for
		if !errors.Is(err, syscall.EAGAIN) || !sleep(ctx, 10*time.Millisecond) {
			return nil, err
		}
	}
}

// whyNot is the error without the path, which stands before it. Of another file connect says that it is closed, or that
// nobody listens.
func whyNot(path string, err error) error {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return err
	}
	info, statErr := os.Stat(path)
	if statErr == nil && info.Mode()&fs.ModeSocket == 0 && (number == syscall.EACCES || number == syscall.ECONNREFUSED) {
		return syscall.ENOTSOCK
	}
	return number
}

// trust checks who serves the socket and who can replace it, before the first byte. The directory is looked at last:
// whoever can write there can also swap the socket.
func trust(c *net.UnixConn, path string) error {
	uid, err := serverUID(c)
	if err != nil {
		return newError(ErrUntrusted, path, "who serves it cannot be told: %v", err)
	}
	if !trusted(uid) {
		return newError(ErrUntrusted, path, "served by uid %d, which is neither you, root nor the user keybroker", uid)
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return newError(ErrUntrusted, path, "its directory cannot be looked at: %v", err)
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return newError(ErrUntrusted, path, "others can write to its directory (mode %03o), so anybody could serve there",
			info.Mode().Perm())
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; !trusted(owner) {
		return newError(ErrUntrusted, path, "its directory belongs to uid %d, which is neither you, root nor the user keybroker", owner)
	}
	return nil
}

func serverUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err == nil {
		err = credErr
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

func trusted(uid uint32) bool {
	if uid == uint32(os.Geteuid()) || uid == 0 {
		return true
	}
	text := environ("KEYBROKER_SERVER_UID")
	if text == "" {
		// the user database is slow to ask, and seldom needed
		account, err := user.Lookup("keybroker")
		if err != nil {
			return false
		}
		text = account.Uid
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return err == nil && n != 1<<32-1 && uid == uint32(n)
}
