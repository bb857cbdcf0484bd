package main

import (
	"errors"

	"btrfs-backup/internal/hint"
)

// usageError is a command line that cannot be carried out as it is written.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// misused makes a usageError with a hint, which is empty when there is nothing helpful to say.
func misused(text, forward string) error { return usageError{hint.New(errors.New(text), forward)} }
