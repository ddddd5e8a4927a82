package access

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// checkEvery is how often at most files are looked at for changes.
const checkEvery = time.Second

// settledAfter is for how long after its last change a file is read again at each
// check: file systems tell times apart by milliseconds only, so that a second write
// right after the first one may leave time and size as they were.
const settledAfter = 2 * time.Second

// content is one file as it was read.
type content struct {
	path string
	data []byte
	mode fs.FileMode
}

// stamp changes when a file does.
type stamp struct {
	dev, ino       uint64
	size           int64
	mode           fs.FileMode
	mtime, changed int64 // nanoseconds; changed also moves with a chmod or a rename
}

// reloaded is what some files hold, read again when they change. It is looked after on
// use: it starts no goroutine, and what nobody asks for is not read.
//
// A change that cannot be used leaves the value as it was, and is logged once.
type reloaded[T any] struct {
	what    string // for messages: "access file"
	paths   []string
	maxSize int64 // of each, in bytes
	parse   func([]content) (*T, error)
	log     *slog.Logger
	now     func() time.Time

	value atomic.Pointer[T]
	next  atomic.Int64 // when to look again, nanoseconds since the epoch

	mu      sync.Mutex        // held by who looks; guards what follows
	seen    []stamp           // of the last look
	settled bool              // the files are as they were while their stamps are
	sum     [sha256.Size]byte // of what was read last; zero after a failure to read
	problem string            // why what is there now is not used; empty: it is
}

// load reads the files for the first time.
func (l *reloaded[T]) load() error {
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.next.Store(now.Add(checkEvery).UnixNano())
	_, err := l.look(now)
	return err
}

// get is the newest value that could be used.
func (l *reloaded[T]) get() *T {
	now := l.now()
	if now.UnixNano() < l.next.Load() || !l.mu.TryLock() {
		return l.value.Load()
	}
	defer l.mu.Unlock()
	if now.UnixNano() < l.next.Load() { // somebody else has looked meanwhile
		return l.value.Load()
	}
	isNew, err := l.look(now)
	l.next.Store(l.now().Add(checkEvery).UnixNano())
	switch {
	case isNew && err != nil:
		l.log.Error("a changed file is not used, what it held before stays in force", "error", err)
	case isNew:
		l.log.Info("a changed file is in force", "what", l.what, "files", l.paths)
	}
	return l.value.Load()
}

// look reads the files if they changed since the last look. isNew says that the error,
// or that there is none, is something new.
func (l *reloaded[T]) look(now time.Time) (isNew bool, err error) {
	if l.settled {
		if stamps, err := l.stamps(); err == nil && slices.Equal(stamps, l.seen) {
			return false, nil
		}
	}
	files, stamps, err := l.read()
	if err != nil {
		l.settled, l.sum = false, [sha256.Size]byte{}
		return l.fail(fmt.Errorf("%s: %w", l.what, err))
	}
	l.seen = stamps
	l.settled = !slices.ContainsFunc(stamps, func(s stamp) bool {
		age := time.Duration(now.UnixNano() - s.mtime)
		return age.Abs() < settledAfter // it may have changed since now was asked for
	})
	sum := checksum(files)
	if sum == l.sum {
		return false, nil
	}
	l.sum = sum
	value, err := l.parse(files)
	if err != nil {
		l.problem = "" // the same mistake in a new file is worth saying again
		return l.fail(fmt.Errorf("%s %w", l.what, err))
	}
	l.problem = ""
	l.value.Store(value)
	return true, nil
}

func (l *reloaded[T]) fail(err error) (isNew bool, _ error) {
	isNew = err.Error() != l.problem
	l.problem = err.Error()
	return isNew, err
}

func (l *reloaded[T]) stamps() ([]stamp, error) {
	stamps := make([]stamp, len(l.paths))
	for i, path := range l.paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		stamps[i] = stampOf(info)
	}
	return stamps, nil
}

func (l *reloaded[T]) read() ([]content, []stamp, error) {
	files, stamps := make([]content, len(l.paths)), make([]stamp, len(l.paths))
	for i, path := range l.paths {
		data, info, err := readFile(path, l.maxSize)
		if err != nil {
			return nil, nil, err
		}
		files[i], stamps[i] = content{path, data, info.Mode()}, stampOf(info)
	}
	return files, stamps, nil
}

func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size(), mode: info.Mode(), mtime: info.ModTime().UnixNano()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.dev, s.ino, s.changed = uint64(sys.Dev), sys.Ino, syscall.TimespecToNsec(sys.Ctim)
	}
	return s
}

// checksum is over what the files hold and who may read them.
func checksum(files []content) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, f := range files {
		_ = binary.Write(h, binary.BigEndian, [2]uint64{uint64(f.mode), uint64(len(f.data))}) // a hash takes everything
		h.Write(f.data)
	}
	h.Sum(sum[:0])
	return sum
}

// readFile reads the regular file at path, and says how it was before that.
func readFile(path string, maxSize int64) ([]byte, fs.FileInfo, error) {
	// Not blocking, for a pipe that nobody writes to.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err == nil && int64(len(data)) > maxSize {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxSize)
	}
	return data, info, err
}
