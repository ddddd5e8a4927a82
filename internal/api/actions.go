package api

// The types below are sent with actions. Fields that are not known are refused.

// SlotRequest is what unlock and lock take.
type SlotRequest struct {
	Group     string `json:"group,omitempty"`
	MachineID string `json:"machineID"`
	Reason    string `json:"reason,omitempty"` // for the history, one line
}

// SetMaxRequest is what set-max takes.
type SetMaxRequest struct {
	Group string `json:"group,omitempty"`
	Max   *int   `json:"max"` // required, 0 or more
}

// PauseRequest is what pause takes.
type PauseRequest struct {
	ScopeRequest
	Until  Time   `json:"until,omitzero"` // missing: until somebody resumes it
	Reason string `json:"reason"`         // required: whoever waits wants to know why
}

// ScopeRequest says what is paused, and is what resume takes. A machine may be named
// by its host name, or by the beginning of its id.
type ScopeRequest struct {
	Scope     string  `json:"scope"`               // required: one of the Scope constants
	Group     *string `json:"group,omitempty"`     // only with ScopeGroup; missing: the default group
	MachineID string  `json:"machineID,omitempty"` // only with ScopeMachine, and required there
}

// ForgetRequest is what forget takes.
type ForgetRequest struct {
	MachineID string `json:"machineID"` // the whole id
}

// Done says what an action was done to.
type Done struct {
	Action    string  `json:"action"`
	Scope     string  `json:"scope,omitempty"` // of pause and resume
	Group     *string `json:"group,omitempty"`
	MachineID string  `json:"machineID,omitempty"`
	OldMax    *int    `json:"oldMax,omitempty"` // of set-max
	Max       *int    `json:"max,omitempty"`    // of set-max
}
