package chaos

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// diskBlock is in what sizes a disk gives away its space, in bytes: what does not fit
// any more is written as far as the last block goes.
const diskBlock = 4096

// mostLeft is what a disk that is filled takes until then, in bytes, at most.
const mostLeft = 64 << 10

// lastMoment is how long a member that met a full disk may take to fall over it.
const lastMoment = 500 * time.Millisecond

// Disk is a file system of the suite's own on a node: what is written to it passes
// through this process into a directory, and can be refused or held up there. It is
// mounted in a mount namespace of the node's, so that it goes with the node, or with
// the suite.
type Disk struct {
	mu     sync.Mutex
	faults []*diskFault
	served chan struct{} // closed when nobody uses the disk any more
}

// diskFault is one thing that is wrong with a disk.
type diskFault struct {
	full bool
	left int64         // bytes, where it is full
	slow time.Duration // that each fsync takes more
}

// Mount makes a disk on the node, visible there at the directory at, that keeps its
// files in another directory. It needs root and /dev/fuse.
func (n *Node) Mount(at, files string) (*Disk, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/fuse: %w", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=%o,user_id=0,group_id=0,default_permissions", fd, unix.S_IFDIR)
	if err := n.do(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("a mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return fmt.Errorf("leaving the mounts of the system: %w", err)
		}
		return unix.Mount("locksmith-chaos", at, "fuse", unix.MS_NODEV|unix.MS_NOSUID, options)
	}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("a file system on %s: %w", n.Name, err)
	}
	d := &Disk{served: make(chan struct{})}
	root := &diskNode{LoopbackNode: &fs.LoopbackNode{RootData: &fs.LoopbackRoot{Path: files}}, disk: d}
	root.RootData.RootNode = root
	// A number in the place of a path says that it is mounted already.
	server, err := fuse.NewServer(fs.NewNodeFS(root, &fs.Options{}), fmt.Sprintf("/dev/fd/%d", fd), &fuse.MountOptions{Name: "locksmith-chaos"})
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("serving the files of %s: %w", n.Name, err)
	}
	go func() {
		defer close(d.served)
		server.Serve()
	}()
	return d, nil
}

// Fill leaves a number of bytes on the disk. After that it takes nothing more, not
// even in the place of what is there, as file systems do that never overwrite.
func (d *Disk) Fill(left int64) (free func()) { return d.add(&diskFault{full: true, left: left}) }

// Slow has each fsync take longer. The longest of several counts.
func (d *Disk) Slow(by time.Duration) (mend func()) { return d.add(&diskFault{slow: by}) }

func (d *Disk) add(f *diskFault) (remove func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = append(d.faults, f)
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.faults = slices.DeleteFunc(d.faults, func(o *diskFault) bool { return o == f })
	}
}

// takes says how many of n bytes at off there is room for.
func (d *Disk) takes(n int, off int64) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.faults {
		if f.full && int64(n) > f.left {
			end := off + f.left
			n, f.left = int(max(0, end-end%diskBlock-off)), 0
		}
	}
	for _, f := range d.faults {
		if f.full {
			f.left -= min(f.left, int64(n))
		}
	}
	return n
}

// delay is how much longer an fsync takes.
func (d *Disk) delay() (most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.faults {
		most = max(most, f.slow)
	}
	return most
}

// diskNode is a directory or a file.
type diskNode struct {
	*fs.LoopbackNode
	disk *Disk
}

// WrapChild makes everything below a diskNode.
func (n *diskNode) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &diskNode{child.(*fs.LoopbackNode), n.disk}
}

// Open opens a file.
func (n *diskNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, out, errno := n.LoopbackNode.Open(ctx, flags)
	return n.disk.open(h), out, errno
}

// Create makes a file: for its name there is room on a full disk, too.
func (n *diskNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	inode, h, fl, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return inode, n.disk.open(h), fl, errno
}

func (d *Disk) open(h fs.FileHandle) fs.FileHandle {
	if h == nil {
		return nil
	}
	return &diskFile{h.(file), d}
}

// file is an open file, without the way past this process that the kernel would take
// if it were offered.
type file interface {
	fs.FileReader
	fs.FileWriter
	fs.FileFsyncer
	fs.FileFlusher
	fs.FileReleaser
	fs.FileAllocater
	fs.FileLseeker
	fs.FileGetattrer
	fs.FileSetattrer
}

// diskFile is an open file on a disk.
type diskFile struct {
	file
	disk *Disk
}

// Write writes what there is room for.
func (f *diskFile) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	n := f.disk.takes(len(data), off)
	if n == 0 && len(data) > 0 {
		return 0, syscall.ENOSPC
	}
	return f.file.Write(ctx, data[:n], off)
}

// Allocate reserves space, or does not.
func (f *diskFile) Allocate(ctx context.Context, off, size uint64, mode uint32) syscall.Errno {
	if f.disk.takes(int(size), int64(off)) < int(size) {
		return syscall.ENOSPC
	}
	return f.file.Allocate(ctx, off, size, mode)
}

// Fsync takes its time.
func (f *diskFile) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	if d := f.disk.delay(); d > 0 {
		until(context.WithoutCancel(ctx), time.Now().Add(d)) // a disk does not hurry for who is killed
	}
	return f.file.Fsync(ctx, flags)
}

// makeDisk makes the directories of a disk and mounts it.
func makeDisk(node *Node, at, files string) (*Disk, error) {
	for _, dir := range []string{at, files} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return node.Mount(at, files)
}

// hitDisk inflicts a fault on a member's disk, and returns how to heal it: etcd ends
// itself when it cannot write, and is started again once there is room.
func (r *run) hitDisk(f Fault, m *Member) (heal func() error) {
	if f.Act == SlowDisk {
		return healing(m.Disk.Slow(f.Slow))
	}
	free := m.Disk.Fill(f.Left)
	return func() error {
		free()
		fell, err := m.Revive(lastMoment)
		if fell {
			r.fleet.Note(fmt.Sprintf("%s: could not write, and is started again", m.Node.Name))
		}
		return err
	}
}
