package dbustest

import "github.com/godbus/dbus/v5"

// handler is every object, every interface and every method at once.
type handler func(Call) ([]any, error)

// LookupObject implements dbus.Handler.
func (h handler) LookupObject(dbus.ObjectPath) (dbus.ServerObject, bool) { return h, true }

// LookupInterface implements dbus.ServerObject.
func (h handler) LookupInterface(string) (dbus.Interface, bool) { return h, true }

// LookupMethod implements dbus.Interface.
func (h handler) LookupMethod(string) (dbus.Method, bool) { return method{h}, true }

type method struct{ answer handler }

// DecodeArguments implements dbus.ArgumentDecoder: the arguments as they came,
// inside the call as a whole.
func (m method) DecodeArguments(_ *dbus.Conn, sender string, msg *dbus.Message, args []any) ([]any, error) {
	path, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	iface, _ := msg.Headers[dbus.FieldInterface].Value().(string)
	member, _ := msg.Headers[dbus.FieldMember].Value().(string)
	return []any{Call{Path: path, Name: iface + "." + member, Args: args, Sender: sender}}, nil
}

// Call implements dbus.Method.
func (m method) Call(args ...any) ([]any, error) { return m.answer(args[0].(Call)) }

// The rest of dbus.Method, which nothing asks for.

func (m method) NumArguments() int     { return 0 }
func (m method) NumReturns() int       { return 0 }
func (m method) ArgumentValue(int) any { return nil }
func (m method) ReturnValue(int) any   { return nil }
