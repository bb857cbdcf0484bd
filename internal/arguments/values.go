package arguments

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/btrfs-backup/btrfs-backup/internal/due"
	"github.com/btrfs-backup/btrfs-backup/retention"
)

// Rate is a number of bytes per second: 10M, 1.5G, 500K.
type Rate rate.Limit

func (r *Rate) Type() string { return "rate" }

func (r *Rate) String() string {
	if *r == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(*r), 'f', -1, 64)
}

func (r *Rate) Set(text string) error {
	bytes, err := parseBytes(text)
	if err != nil {
		return errors.New("not a rate")
	}
	*r = Rate(bytes)
	return nil
}

// Size is an option that takes a number of bytes: 16M, 1G.
type Size int64

// Type tells what is needed.
func (s *Size) Type() string { return "size" }

func (s *Size) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*s), 10)
}

func (s *Size) Set(text string) error {
	bytes, err := parseBytes(text)
	if err != nil {
		return errors.New("not a size")
	}
	*s = Size(bytes)
	return nil
}

// parseBytes reads a number of bytes, with or without a unit.
func parseBytes(text string) (float64, error) {
	number, factor := text, 1.0
	if i := strings.IndexAny(strings.ToUpper(text), "KMGT"); i >= 0 && i >= len(text)-len("MiB") {
		factor = map[byte]float64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}[strings.ToUpper(text)[i]]
		number = text[:i]
		if unit := strings.ToUpper(text[i+1:]); unit != "" && unit != "B" && unit != "IB" {
			return 0, errors.New("not a unit of bytes")
		}
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil || !(value*factor >= 1 && value*factor <= 1<<50) { // nor is NaN a rate
		return 0, errors.New("not a number of bytes")
	}
	return value * factor, nil
}

// Policy is a retention policy. The term last=N may also be given by an option of its own.
type Policy retention.Policy

func (p *Policy) Type() string { return "policy" }

func (p *Policy) String() string { return retention.Policy(*p).String() }

func (p *Policy) Set(text string) error {
	policy, err := retention.Parse(text)
	if err != nil {
		return err
	}
	if policy.Last == 0 {
		policy.Last = p.Last
	}
	*p = Policy(policy)
	return nil
}

// Time is an option that takes a time as the configuration does. It is not set while it is negative.
type Time struct {
	Of    *time.Duration
	Least time.Duration
}

func (t Time) Set(text string) (err error) {
	if *t.Of, err = due.ParseDuration(text); err == nil && *t.Of < t.Least {
		err = fmt.Errorf("needs at least %s, not %s", t.Least, text)
	}
	return err
}

func (t Time) String() string {
	if t.Of == nil || *t.Of <= 0 {
		return ""
	}
	return t.Of.String()
}

func (Time) Type() string { return "time" }
