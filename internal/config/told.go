package config

import (
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
)

// At tells what is wrong with a job at the lines of its keys.
func (j *Job) At(all hint.Complaints) error {
	var r reader
	r.addAll(j.table(), all)
	return r.complaints.Err()
}

// table gives the settings of a job.
func (j *Job) table() *table {
	t := newTable(j.Origin)
	for _, s := range j.settings {
		t.set(s.key, s.value)
	}
	return t
}

// CheckFiles tells what is wrong with the files that stores need, at the lines that name these. State is as in job.Environment.
func (c *Config) CheckFiles(state string) error {
	var r reader
	for _, j := range c.Jobs {
		for _, p := range j.Spec.Destinations {
			if s, ok := p.(job.Store); ok {
				r.addAll(j.tableAt(p), j.Spec.StoresAt(p).CheckFiles(s, state))
			}
		}
	}
	return r.complaints.Err()
}

// tableAt gives the settings of a job for a destination.
func (j *Job) tableAt(p job.Place) *table {
	all := j.table()
	if v, ok := all.values["destination"]; ok {
		all.Origin = v.Origin
	}
	to, ok := all.values["to"].any.(*table)
	if !ok {
		return all
	}
	for _, key := range to.keys {
		if named, err := job.ParsePlace(key); err != nil || named != p {
			continue
		}
		if own, ok := to.values[key].any.(*table); ok {
			for _, key := range own.keys {
				all.set(key, own.values[key])
			}
		}
	}
	return all
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
