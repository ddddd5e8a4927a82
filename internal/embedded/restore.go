package embedded

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// SnapshotInfo is what a snapshot holds.
type SnapshotInfo struct {
	Size     int64 // bytes, without the checksum
	Revision int64 // the newest of the store at that moment
	Keys     int
	Sum      string // SHA-256 of all of it, hexadecimal
}

// CheckSnapshot reads a snapshot, verifies its checksum and its structure, and says
// what it holds. Anything that is not whole is an error.
func CheckSnapshot(file string) (SnapshotInfo, error) {
	size, sum, err := checksum(file)
	if err != nil {
		return SnapshotInfo{}, err
	}
	status, err := snapshot.NewV3(zap.NewNop()).Status(file)
	if err != nil {
		return SnapshotInfo{}, fmt.Errorf("the snapshot %s is damaged: %w", file, err)
	}
	return SnapshotInfo{Size: size, Revision: status.Revision, Keys: status.TotalKey, Sum: sum}, nil
}

// blockSize is what a store's size is a multiple of; behind it stands the checksum.
const blockSize = 512

// checksum verifies the SHA-256 that ends a snapshot and covers all before it.
func checksum(file string) (size int64, sum string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, "", fmt.Errorf("the snapshot cannot be read: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, "", fmt.Errorf("the snapshot cannot be read: %w", err)
	}
	size = info.Size() - sha256.Size
	if !info.Mode().IsRegular() || size <= 0 || size%blockSize != 0 {
		return 0, "", fmt.Errorf("%s is no snapshot of an etcd, or only a part of one: no checksum stands at its end", file)
	}
	h := sha256.New()
	stated := make([]byte, sha256.Size)
	if _, err := io.Copy(h, io.LimitReader(f, size)); err != nil {
		return 0, "", fmt.Errorf("the snapshot cannot be read: %w", err)
	}
	if _, err := io.ReadFull(f, stated); err != nil {
		return 0, "", fmt.Errorf("the snapshot cannot be read: %w", err)
	}
	if got := h.Sum(nil); !bytes.Equal(got, stated) {
		return 0, "", fmt.Errorf("the snapshot %s is damaged: its checksum is %x, and that of its contents %x", file, stated, got)
	}
	return size, fmt.Sprintf("%x", stated), nil
}

// revisionBump lies between the last revision of a snapshot and the first one of the
// store that is made of it: more than a store could have gone on to before it was
// lost. Clients that remember revisions of the lost store then see that theirs are
// old, and not a future they wait for.
const revisionBump = 1_000_000_000

// Restore makes the data directory of a server from a snapshot. dir must be empty, or
// not exist; it is there afterwards with all of its contents, or it is as it was.
func Restore(file, dir string) (SnapshotInfo, error) {
	info, err := CheckSnapshot(file)
	if err != nil {
		return info, err
	}
	entries, err := os.ReadDir(dir)
	switch {
	case err == nil && len(entries) > 0:
		return info, fmt.Errorf("%s is not empty: a snapshot is only restored to a place where nothing is lost", dir)
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return info, err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return info, err
	}
	// In a directory beside it, so that what was begun and not finished is no store.
	temp, err := os.MkdirTemp(parent, ".restoring-")
	if err != nil {
		return info, err
	}
	defer os.RemoveAll(temp)
	made := filepath.Join(temp, "etcd")
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: file, OutputDataDir: made,
		Name: memberName, PeerURLs: []string{memberURL.String()}, InitialCluster: memberName + "=" + memberURL.String(), InitialClusterToken: "locksmith",
		RevisionBump: revisionBump, MarkCompacted: true,
	})
	if err != nil {
		return info, fmt.Errorf("restoring %s: %w", file, err)
	}
	if err := syncTree(made); err != nil {
		return info, err
	}
	if err := os.Rename(made, dir); err != nil {
		return info, err
	}
	return info, syncDir(parent)
}

// syncTree has everything below a directory written to disk.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncDir(path)
	})
}

// syncDir has a directory, or a file, written to disk.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
