package etcd

import (
	"context"
	"io"
)

// Snapshot writes a snapshot of the whole etcd, at one revision of one of its members,
// to w, its checksum included. It takes as long as it takes, or until ctx ends; an
// error may come after a part of it was written.
func (s *Store) Snapshot(ctx context.Context, w io.Writer) error {
	// The stream would wait for an etcd that is away; a read says at once what is wrong.
	if _, err := s.get(ctx, prefix); err != nil {
		return s.explain(ctx, err)
	}
	cl, err := s.client()
	if err != nil {
		return err
	}
	resp, err := cl.SnapshotWithVersion(ctx)
	if err != nil {
		return s.explain(ctx, err)
	}
	defer resp.Snapshot.Close()
	source := &source{r: resp.Snapshot}
	if _, err := io.Copy(w, source); err != nil {
		if source.err == nil { // of w, which is the caller's
			return err
		}
		return s.explain(ctx, err)
	}
	return nil
}

// source tells a reader's errors from those of whom it is copied to.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
