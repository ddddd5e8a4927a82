package embedded

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapTo is etcd's logger, whose messages go to log: errors as errors, warnings, of
// which etcd has one for each slow disk, as debug messages. What is fatal to etcd ends
// the process, with or without a logger, and must not do so without a word.
// While it closes, etcd calls errors what is none: then only the fatal ones are.
func zapTo(log *slog.Logger, closing *atomic.Bool) *zap.Logger { return zap.New(core{log, closing}) }

// core hands etcd's messages on.
type core struct {
	log     *slog.Logger
	closing *atomic.Bool
}

func (c core) level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.DPanicLevel, l >= zapcore.ErrorLevel && !c.closing.Load():
		return slog.LevelError
	case l >= zapcore.WarnLevel:
		return slog.LevelDebug
	}
	return slog.LevelDebug - 4
}

func (c core) Enabled(l zapcore.Level) bool { return c.log.Enabled(context.Background(), c.level(l)) }

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log.With(attrs(fields)...), c.closing}
}

func (c core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.Log(context.Background(), c.level(e.Level), "embedded etcd: "+e.Message, attrs(fields)...)
	return nil
}

func (core) Sync() error { return nil }

// attrs turns zap's fields into slog's.
func attrs(fields []zapcore.Field) []any {
	list := make([]any, 0, len(fields))
	for _, f := range fields {
		m := zapcore.NewMapObjectEncoder()
		f.AddTo(m)
		for key, value := range m.Fields {
			if d, ok := value.(time.Duration); ok {
				value = d.String()
			}
			list = append(list, slog.Any(key, value))
		}
	}
	return list
}
