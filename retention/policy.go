package retention

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Policy says what to keep. The zero Policy keeps everything; any other keeps what at least one of its terms keeps.
type Policy struct {
	Last   int        // as many of the newest; 0 or less: the term is not given
	Within Span       // all that are younger; zero: the term is not given
	Of     [units]int // by Unit: the oldest of as many periods, or of All; 0: the term is not given

	Calendar
	Btrbk bool // the terms count as btrbk's do, see As
}

// All stands for every period of a unit.
const All = -1

// A Span is a length of time by the calendar.
type Span struct {
	N    int
	Unit Unit
}

// before gives the time that lies a span before t.
func (s Span) before(t time.Time) time.Time {
	switch s.Unit {
	case Hour:
		return t.Add(-time.Duration(s.N) * time.Hour)
	case Day:
		return t.AddDate(0, 0, -s.N)
	case Week:
		return t.AddDate(0, 0, -7*s.N)
	case Month:
		return t.AddDate(0, -s.N, 0)
	case Quarter:
		return t.AddDate(0, -3*s.N, 0)
	default:
		return t.AddDate(-s.N, 0, 0)
	}
}

// Grammar shows how a policy is written.
const Grammar = `terms such as "14d 8w 12m *y": a number or * (all), and h, d, w, m, q or y; last=3; within=2d; compat=btrbk`

const letters = "hdwmqy" // of the units

var term = regexp.MustCompile(`^(?:last=(\d+)|within=(\d+)([` + letters + `])|(\d+|\*)([` + letters + `])` +
	`|week-start=([a-z]+)|day-start=(\d\d:\d\d)|compat=([a-z]+))\s*`)

// Parse reads a policy: terms with or without blanks between them, each at most once, of which at least one keeps something.
func Parse(text string) (Policy, error) {
	var p Policy
	rule := ""
	given := make(map[string]bool)
	for rest := strings.TrimSpace(text); rest != ""; {
		found := term.FindStringSubmatch(rest)
		if found == nil {
			return Policy{}, fmt.Errorf("%q is not a term of a policy", firstWord(rest))
		}
		rest = rest[len(found[0]):]
		written := strings.TrimSpace(found[0])
		kind, _, _ := strings.Cut(strings.TrimLeft(written, "0123456789*"), "=")
		if given[kind] {
			return Policy{}, fmt.Errorf("%q is a second term of its kind", written)
		}
		given[kind] = true
		if kind == "compat" {
			rule = found[len(found)-1]
			continue
		}
		if err := p.add(found[1:]); err != nil {
			return Policy{}, fmt.Errorf("%q: %w", written, err)
		}
	}
	if p.keepsAll() {
		return Policy{}, errors.New("an empty policy keeps nothing")
	}
	return p.As(rule)
}

func firstWord(text string) string {
	word, _, _ := strings.Cut(text, " ")
	return word
}

// add takes a term by the groups of its pattern.
func (p *Policy) add(found []string) (err error) {
	last, within, withinUnit, count, unit, weekStart, dayStart := found[0], found[1], found[2], found[3], found[4], found[5], found[6]
	switch {
	case last != "":
		p.Last, err = number(last)
	case within != "":
		p.Within.N, err = number(within)
		p.Within.Unit = unitOf(withinUnit)
	case count == "*":
		p.Of[unitOf(unit)] = All
	case count != "":
		p.Of[unitOf(unit)], err = number(count)
	default:
		err = p.Calendar.add(weekStart, dayStart)
	}
	return err
}

// number reads a number of snapshots or periods. More than a million keep all as well.
func number(digits string) (int, error) {
	const most = 1_000_000
	n, err := strconv.Atoi(digits)
	if err != nil || n > most {
		return 0, fmt.Errorf("the number is larger than %d; * keeps all", most)
	}
	return n, nil
}

func unitOf(letter string) Unit { return Unit(strings.Index(letters, letter)) }

// keepsAll tells that no term is given.
func (p Policy) keepsAll() bool { return p.Last <= 0 && p.Within.N == 0 && p.Of == [units]int{} }

// AtLeast gives the policy that keeps what is younger, too. One that keeps all does so anyway.
func (p Policy) AtLeast(age time.Duration) Policy {
	hours := Span{int((age + time.Hour - 1) / time.Hour), Hour}
	at := time.Unix(0, 0)
	if !p.keepsAll() && hours.before(at).Before(p.Within.before(at)) {
		p.Within = hours
	}
	return p
}

// String writes the policy as Parse reads it; "" keeps everything.
func (p Policy) String() string {
	var terms []string
	if p.Btrbk {
		terms = append(terms, "compat="+Btrbk)
	}
	if p.Within.N > 0 {
		terms = append(terms, fmt.Sprintf("within=%d%c", p.Within.N, letters[p.Within.Unit]))
	}
	if p.Last > 0 {
		terms = append(terms, fmt.Sprintf("last=%d", p.Last))
	}
	for unit, n := range p.Of {
		switch {
		case n == All:
			terms = append(terms, "*"+letters[unit:unit+1])
		case n > 0:
			terms = append(terms, strconv.Itoa(n)+letters[unit:unit+1])
		}
	}
	if calendar := p.Calendar.String(); calendar != "" {
		terms = append(terms, calendar)
	}
	return strings.Join(terms, " ")
}
