package progress

import "time"

// A Now is how far a transfer has come, for others to show.
type Now struct {
	Title     string        `json:"title"` // the destination and the snapshot
	Began     time.Time     `json:"began"`
	Bytes     int64         `json:"bytes"`
	Total     int64         `json:"total_bytes,omitempty"`  // 0: unknown
	AtMost    bool          `json:"total_is_most,omitzero"` // Total is an upper bound
	Rate      float64       `json:"bytes_per_second"`
	Remaining time.Duration `json:"remaining_nanoseconds,omitempty"` // 0: unknown
}

// Sentence tells it as lines of a log do: "1.2 GiB of 3.4 GiB (35 %), 56 MiB/s, 40 s left".
func (n Now) Sentence() string {
	return status{bytes: n.Bytes, total: Total{n.Total, n.AtMost}, rate: n.Rate, remaining: n.Remaining, canTell: n.Remaining > 0}.sentence()
}

// A gauge is what a rate and a remaining time are told by.
type gauge struct {
	meter meter
	clock countdown
}

func (t *Transfer) now() Now {
	s := t.sample(&t.watched.meter, &t.watched.clock)
	n := Now{Title: t.title, Began: t.began, Bytes: s.bytes, Total: s.total.Bytes, AtMost: s.total.AtMost, Rate: s.rate}
	if s.canTell {
		n.Remaining = s.remaining
	}
	return n
}

// Watch has the running transfers told at each interval until Close, whatever else shows them. No total is asked for.
func (d *Display) Watch(every time.Duration, tell func([]Now)) {
	d.ticking.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-d.closed:
				return
			case <-ticker.C:
				tell(d.now())
			}
		}
	})
}

func (d *Display) now() []Now {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]Now, len(d.running))
	for i, t := range d.running {
		all[i] = t.now()
	}
	return all
}
