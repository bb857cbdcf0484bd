package engine

import (
	"context"
	"errors"
)

// Absent stands for a destination that is not served in this run, and tells why. That is no failure. What it lacks, and what its
// next increment needs, is kept for it as for one that failed.
func Absent(name, why string) Destination { return &absent{name, why} }

type absent struct{ name, why string }

func (a *absent) String() string { return a.name }

func (a *absent) Save(context.Context, Transfer) (Result, error) { return Result{}, a }

func (a *absent) Open(context.Context) error   { return a }
func (a *absent) Create(context.Context) error { return a }

func (a *absent) Error() string { return a.name + ": " + a.why }

// isAbsent tells that the destination is not to be served.
func (v *visit) isAbsent() bool { return errors.As(v.away, new(*absent)) }
