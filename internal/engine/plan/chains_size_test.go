package plan

import (
	"math"
	"testing"
	"time"
)

// data is what changes in a source: parts that are overwritten at random, and what is new. So what changed in a longer time is less
// than the sum of what changed in its parts.
type data struct {
	first           float64 // GiB
	growth          float64 // GiB an hour
	hot, hotPerHour float64 // GiB, and GiB an hour
	warm, perHour   float64
}

func (d data) full(age time.Duration) float64 { return d.first + d.growth*age.Hours() }

func (d data) changed(in time.Duration) float64 {
	part := func(size, perHour float64) float64 { return size * (1 - math.Exp(-perHour*in.Hours()/size)) }
	return part(d.hot, d.hotPerHour) + part(d.warm, d.perHour) + d.growth*in.Hours()
}

func TestThreeYearsOfADesktopTakeLittleRoom(t *testing.T) {
	inZone(t, "Europe/Berlin")
	desktop := data{first: 200, growth: 0.004, hot: 2, hotPerHour: 0.2, warm: 10, perHour: 0.03}
	start := time.Date(2026, 1, 1, 1, 0, 0, 0, time.Local)
	w := newWorld(t, start, "14d 8w 12m 3y", "last=2")
	sizes := make(map[string]float64)
	var sent, months float64
	stored := func() (sum float64) {
		for name := range w.chains.On {
			sum += sizes[name]
		}
		return sum
	}
	for range 1096 {
		w.run()
		for name, on := range w.chains.On {
			if sizes[name] == 0 {
				made, _ := Naming{}.Time(name)
				if sizes[name] = desktop.full(made.Sub(start)); on != "" {
					upon, _ := Naming{}.Time(on)
					sizes[name] = desktop.changed(made.Sub(upon))
				}
				sent += sizes[name]
			}
		}
		months += stored() / 30.44
		w.now = w.now.AddDate(0, 0, 1)
	}
	fullEachMonth := stored()
	for name := range w.chains.On {
		if made, _ := (Naming{}).Time(name); made.Day() == 1 {
			fullEachMonth += desktop.full(made.Sub(start)) - sizes[name]
		}
	}
	t.Logf("sent %.0f GiB, stored %.0f (%.0f with a complete copy each month), %.0f GiB-months; %s", sent, stored(), fullEachMonth, months, w)
	if sent > 6000 || stored() > 1200 || months > 31_000 || 3*stored() > fullEachMonth {
		t.Error("too much")
	}
	if w.complete != 3 || w.most > 34+7 || w.longest > 9 {
		t.Error(w)
	}
}
