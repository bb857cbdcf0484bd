package progress

import "time"

// lines shows each running transfer by a plain line now and then.
type lines struct {
	silent
	log   func(line string)
	every time.Duration
}

// NewLines returns a Display for what is not a terminal: it passes to log one
// line without newline per running transfer and interval. The log must not
// call methods of the Display.
func NewLines(log func(line string), every time.Duration) *Display {
	return newDisplay(&lines{log: log, every: every}, time.Second)
}

func (l *lines) refresh(running []*Transfer) {
	for _, t := range running {
		if time.Since(t.meter.last) < l.every {
			continue
		}
		l.log(t.title + ": " + t.status().sentence())
		t.measure()
	}
}
