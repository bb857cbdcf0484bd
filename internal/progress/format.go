package progress

import (
	"fmt"
	"time"
)

// units are those of sizes from 1000 bytes on.
var units = []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// Bytes formats a size in IEC units, in at most seven characters: "1.2 GiB".
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	size, unit := float64(n)/1024, 0
	for size >= 999.5 {
		size /= 1024
		unit++
	}
	return number(size) + " " + units[unit]
}

// number formats a size in its unit.
func number(size float64) string {
	if size < 9.95 {
		return fmt.Sprintf("%.1f", size)
	}
	return fmt.Sprintf("%.0f", size)
}

func speed(bytesPerSecond float64) string {
	return Bytes(int64(bytesPerSecond)) + "/s"
}

// Duration formats a duration in its two greatest units: "0.4 s", "40 s",
// "3 min 20 s", "2 h 5 min".
func Duration(d time.Duration) string {
	if d < 9950*time.Millisecond {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	if d = d.Round(time.Second); d < time.Minute {
		return fmt.Sprintf("%d s", d/time.Second)
	}
	if d < time.Hour {
		return twoUnits(d, time.Minute, "min", time.Second, "s")
	}
	return twoUnits(d.Round(time.Minute), time.Hour, "h", time.Minute, "min")
}

func twoUnits(d, unit time.Duration, name string, small time.Duration, smallName string) string {
	whole, rest := d/unit, d%unit/small
	if rest == 0 {
		return fmt.Sprintf("%d %s", whole, name)
	}
	return fmt.Sprintf("%d %s %d %s", whole, name, rest, smallName)
}
