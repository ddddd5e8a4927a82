package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/godbus/dbus/v5"
)

// Names of errors that the message bus itself answers with.
const (
	ErrorNoOwner        = "org.freedesktop.DBus.Error.NameHasNoOwner"
	ErrorServiceUnknown = "org.freedesktop.DBus.Error.ServiceUnknown"
	ErrorAccessDenied   = "org.freedesktop.DBus.Error.AccessDenied"
	ErrorNoReply        = "org.freedesktop.DBus.Error.NoReply"
	ErrorUnknownObject  = "org.freedesktop.DBus.Error.UnknownObject"
)

// textLimit bounds, in bytes, a text from the bus that becomes part of an error.
const textLimit = 300

// Error is an error reply.
type Error struct {
	Name    string // "org.freedesktop.DBus.Error.AccessDenied"
	Message string // for people, cleaned; may be empty
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Name
	}
	return e.Message
}

// ErrorName is the D-Bus name of the error reply in err, or "" where err is none.
func ErrorName(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Name
	}
	return ""
}

// NotRunning says whether err is an answer of the bus that nobody owns the name
// that was called and nobody could be started for it.
func NotRunning(err error) bool {
	name := ErrorName(err)
	return name == ErrorNoOwner || name == ErrorServiceUnknown ||
		strings.HasPrefix(name, "org.freedesktop.DBus.Error.Spawn.")
}

// Method says what to call.
type Method struct {
	Service string          // the name on the bus: "org.freedesktop.login1"
	Path    dbus.ObjectPath // the object
	Name    string          // with its interface: "org.freedesktop.login1.Manager.Reboot"
	NoStart bool            // do not start the service where it is not running
}

// callTimeout bounds calls whose context has no deadline, as D-Bus's own libraries
// do: a service that hangs must not hang its callers.
const callTimeout = 25 * time.Second

// Call calls m and returns the values of the reply, whose number and types are
// unchecked. It ends with ctx, returning ctx's cause; without a deadline it ends
// after 25 s with an error that wraps context.DeadlineExceeded. An error reply is an
// *Error; where the bus is away or goes away meanwhile, the error wraps ErrAway.
func (b *Bus) Call(ctx context.Context, m Method, args ...any) ([]any, error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, b.callTimeout,
			fmt.Errorf("no answer within %v: %w", b.callTimeout, context.DeadlineExceeded))
		defer cancel()
	}
	conn, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	return callOn(ctx, conn, m, args...)
}

func callOn(ctx context.Context, conn *dbus.Conn, m Method, args ...any) ([]any, error) {
	var flags dbus.Flags
	if m.NoStart {
		flags |= dbus.FlagNoAutoStart
	}
	call := conn.Object(m.Service, m.Path).CallWithContext(ctx, m.Name, flags, args...)
	if call.Err == nil {
		return call.Body, nil
	}
	var reply dbus.Error
	var format dbus.FormatError
	var invalid dbus.InvalidMessageError
	switch {
	case errors.As(call.Err, &reply):
		return nil, replyError(reply)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(call.Err, &format), errors.As(call.Err, &invalid):
		return nil, call.Err // the message could not be sent, for a reason of its own
	}
	return nil, fmt.Errorf("%w: the connection was lost during the call", ErrAway)
}

func replyError(reply dbus.Error) *Error {
	e := &Error{Name: Clean(reply.Name, textLimit)}
	if len(reply.Body) > 0 {
		text, _ := reply.Body[0].(string)
		e.Message = Clean(text, textLimit)
	}
	return e
}

// Owner returns the unique name (":1.5") of the connection that owns name at this
// moment. Where nobody does, NotRunning is true of the error.
func (b *Bus) Owner(ctx context.Context, name string) (string, error) {
	reply, err := b.Call(ctx, driver("GetNameOwner"), name)
	if err != nil {
		return "", err
	}
	return Value[string](reply, 0)
}

// Value returns value i of values, as a call or a structure holds them, or an
// error where it is missing or of another type. Nothing is converted: godbus's
// own dbus.Store would make a string of a number.
func Value[T any](values []any, i int) (T, error) {
	var zero T
	if i >= len(values) {
		return zero, fmt.Errorf("malformed reply: %d values, at least %d expected", len(values), i+1)
	}
	v, ok := values[i].(T)
	if !ok {
		return zero, fmt.Errorf("malformed reply: value %d is %T, %T expected", i, values[i], zero)
	}
	return v, nil
}

// Clean makes a text from the bus fit to be shown on one line: control and other
// unprintable characters become spaces, and what is longer than limit bytes is
// cut, with "…" in its place.
func Clean(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= limit {
		return text
	}
	const mark = "…"
	end := 0
	for i := range text {
		if i > limit-len(mark) {
			break
		}
		end = i
	}
	return text[:end] + mark
}
