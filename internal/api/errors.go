package api

import (
	"errors"
	"net/http"

	"github.com/locksmith-reboot/locksmith"
)

// Code is the sort of an error. Codes stay; new ones may come.
type Code string

// The codes, with their HTTP status.
const (
	CodeInvalid        Code = "invalid_request"        // 400
	CodeUnauthorized   Code = "unauthorized"           // 401
	CodeForbidden      Code = "forbidden"              // 403
	CodeNotFound       Code = "not_found"              // 404: no such path
	CodeUnknownMachine Code = "unknown_machine"        // 404
	CodeUnknownGroup   Code = "unknown_group"          // 404
	CodeMethod         Code = "method_not_allowed"     // 405
	CodeNotHolder      Code = "not_holder"             // 409: the machine holds no slot of the group
	CodeHolderExists   Code = "holder_exists"          // 409: it holds one already
	CodeHeldByOther    Code = "held_by_other"          // 409: its slot is somebody else's
	CodeNotPaused      Code = "not_paused"             // 409
	CodeConflict       Code = "conflict"               // 409: what is stored forbids it; the message says what
	CodeTooLarge       Code = "request_too_large"      // 413
	CodeMediaType      Code = "unsupported_media_type" // 415
	CodeFull           Code = "semaphore_full"         // 423: no slot is free
	CodePaused         Code = "paused"                 // 423
	CodeInternal       Code = "internal_error"         // 500
	CodeUnreadable     Code = "unreadable_document"    // 500: what is stored cannot be understood
	CodeStore          Code = "store_error"            // 500: the store refuses, and waiting does not cure it
	CodeUnavailable    Code = "store_unavailable"      // 503: the store is away
	CodeBusy           Code = "too_many_requests"      // 503
)

// status is the HTTP status of each code.
var status = map[Code]int{
	CodeInvalid: http.StatusBadRequest, CodeUnauthorized: http.StatusUnauthorized, CodeForbidden: http.StatusForbidden,
	CodeNotFound: http.StatusNotFound, CodeUnknownMachine: http.StatusNotFound, CodeUnknownGroup: http.StatusNotFound,
	CodeMethod: http.StatusMethodNotAllowed, CodeNotHolder: http.StatusConflict, CodeHolderExists: http.StatusConflict,
	CodeHeldByOther: http.StatusConflict, CodeNotPaused: http.StatusConflict, CodeConflict: http.StatusConflict,
	CodeTooLarge: http.StatusRequestEntityTooLarge, CodeMediaType: http.StatusUnsupportedMediaType,
	CodeFull: http.StatusLocked, CodePaused: http.StatusLocked, CodeInternal: http.StatusInternalServerError,
	CodeUnreadable: http.StatusInternalServerError, CodeStore: http.StatusInternalServerError,
	CodeUnavailable: http.StatusServiceUnavailable, CodeBusy: http.StatusServiceUnavailable,
}

// Codes lists all codes.
func Codes() []Code {
	var list []Code
	for c := range status {
		list = append(list, c)
	}
	return list
}

// Status is the HTTP status of a code, 500 for one that is not known.
func (c Code) Status() int {
	if s, ok := status[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// ErrorDocument is what every answer is that is no success.
type ErrorDocument struct {
	Error ErrorBody `json:"error"`
}

// ErrorBody says what went wrong. Of the last fields those are set that belong to the
// code.
type ErrorBody struct {
	Code    Code   `json:"code"`
	Message string `json:"message"` // for people, one line

	Group     *string  `json:"group,omitempty"`     // of semaphore_full and held_by_other
	Available *int     `json:"available,omitempty"` // of semaphore_full
	Holders   []string `json:"holders,omitempty"`   // of semaphore_full: machines, where that was read
	By        string   `json:"by,omitempty"`        // of held_by_other: the program
	Key       string   `json:"key,omitempty"`       // of unreadable_document: where it is stored
	Cause     string   `json:"cause,omitempty"`     // of unreadable_document: what is wrong with it
	Pauses    []Pause  `json:"pauses,omitempty"`    // of paused
}

// sentinels are the outcomes that carry nothing but a text.
var sentinels = map[Code]error{
	CodeNotHolder: locksmith.ErrNotHolder, CodeHolderExists: locksmith.ErrHolderExists, CodeNotPaused: locksmith.ErrNotPaused,
	CodeUnknownMachine: locksmith.ErrUnknownMachine, CodeUnknownGroup: locksmith.ErrUnknownGroup,
}

// ErrorFrom is an outcome of the vocabulary as a document. ok is false for any other
// error.
func ErrorFrom(err error) (body ErrorBody, ok bool) {
	body.Message = err.Error()
	for code, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			body.Code = code
			return body, true
		}
	}
	if full, ok := errors.AsType[*locksmith.FullError](err); ok {
		body.Code, body.Group, body.Available, body.Holders = CodeFull, new(string(full.Group)), new(full.Semaphore), full.Holders
	} else if held, ok := errors.AsType[*locksmith.HeldError](err); ok {
		body.Code, body.Group, body.By = CodeHeldByOther, new(string(held.Group)), held.By
	} else if unreadable, ok := errors.AsType[*locksmith.UnreadableError](err); ok {
		body.Code, body.Key = CodeUnreadable, unreadable.Key
		if unreadable.Err != nil {
			body.Cause = unreadable.Err.Error()
		}
	} else if paused, ok := errors.AsType[*locksmith.PausedError](err); ok {
		body.Code, body.Pauses = CodePaused, PausesFrom(paused.Pauses)
	}
	return body, body.Code != ""
}

// Error is how a server answered that something was not done. It wraps the
// vocabulary's error where the code stands for one.
type Error struct {
	Code    Code
	Status  int    // of HTTP
	Message string // for people, one line
	err     error
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.err }

// Transient says whether waiting may cure it: the server, or its store, is away or busy.
func (e *Error) Transient() bool { return e.Code == CodeUnavailable || e.Code == CodeBusy }

// Err is the document as an error, as an answer of this HTTP status carried it.
func (b ErrorBody) Err(status int) *Error {
	e := &Error{Code: b.Code, Status: status, Message: b.Message, err: sentinels[b.Code]}
	var group locksmith.Group
	if b.Group != nil {
		group = locksmith.Group(*b.Group)
	}
	switch b.Code {
	case CodeFull:
		full := &locksmith.FullError{Group: group, Holders: b.Holders}
		if b.Available != nil {
			full.Semaphore = *b.Available
		}
		e.err = full
	case CodeHeldByOther:
		e.err = &locksmith.HeldError{Group: group, By: b.By}
	case CodeUnreadable:
		e.err = &locksmith.UnreadableError{Key: b.Key, Err: errors.New(b.Cause)}
	case CodePaused:
		if list, err := pauses(b.Pauses); err == nil {
			e.err = &locksmith.PausedError{Pauses: list}
		}
	}
	return e
}
