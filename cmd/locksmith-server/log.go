package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/locksmith-reboot/locksmith/internal/journal"
)

// newLog is the log in the format that was chosen, and what closes it.
func newLog(s serveSettings, w io.Writer) (log *slog.Logger, closeLog func()) {
	opts := &slog.HandlerOptions{Level: slog.LevelInfo}
	if s.debug {
		opts.Level = slog.LevelDebug
	}
	file, isFile := w.(*os.File)
	switch {
	case s.logFormat == "json":
		return slog.New(slog.NewJSONHandler(w, opts)), func() {}
	case s.logFormat == "journal" || s.logFormat == logAuto && isFile && journal.Under(file):
		h := journal.New(journal.Config{Identifier: "locksmith-server", Level: opts.Level, Fallback: w})
		return slog.New(h), func() { h.Close() } // at its end nothing more can be said
	}
	return slog.New(slog.NewTextHandler(w, opts)), func() {}
}
