package config

import (
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// At tells what is wrong with a job at the lines of its keys.
func (j *Job) At(all hint.Complaints) error {
	t := newTable(j.Origin)
	for _, s := range j.settings {
		t.set(s.key, s.value)
	}
	var r reader
	r.addAll(t, all)
	return r.complaints.Err()
}

// A Line is a setting of a job as `config show` tells it.
type Line struct {
	Key, Value string
	Origin
}

// Lines gives the settings of a job, in the order in which they count.
func (j *Job) Lines() (lines []Line) {
	for _, s := range j.settings {
		lines = append(lines, linesOf(quoteKey(s.key), s.value)...)
	}
	return lines
}

func linesOf(key string, v value) (lines []Line) {
	t, ok := v.any.(*table)
	if !ok {
		return []Line{{key, v.String(), v.Origin}}
	}
	for _, inner := range t.keys {
		lines = append(lines, linesOf(key+"."+quoteKey(inner), t.values[inner])...)
	}
	return lines
}
