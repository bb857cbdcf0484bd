package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/job"
)

// Job gives the job of a name, or nil.
func (c *Config) Job(name string) *Job {
	i := slices.IndexFunc(c.Jobs, func(j *Job) bool { return j.Name == name })
	if i < 0 {
		return nil
	}
	return c.Jobs[i]
}

// JobNames gives the names of the jobs.
func (c *Config) JobNames() (names []string) {
	for _, j := range c.Jobs {
		names = append(names, j.Name)
	}
	return names
}

// Tags gives the tags of all jobs, each once.
func (c *Config) Tags() (tags []string) {
	for _, j := range c.Jobs {
		tags = append(tags, j.Tags...)
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// DiskNames gives the names of the disks.
func (c *Config) DiskNames() (names []string) {
	for _, d := range c.Disks {
		names = append(names, d.Name)
	}
	return names
}

// JobAt gives the one job that has a place as a source or destination. Of several that share a store, it is the one whose source is
// meant. The hint of the error may be job.GivePolicy: a policy is what the job is asked for.
func (c *Config) JobAt(p job.Place) (*Job, error) {
	all := slices.DeleteFunc(slices.Clone(c.Jobs), func(j *Job) bool { return !j.Spec.Has(p) })
	if len(all) > 1 {
		if named := slices.DeleteFunc(slices.Clone(all), func(j *Job) bool { return !j.Spec.Names(p) }); len(named) > 0 {
			all = named
		}
	}
	switch len(all) {
	case 0:
		return nil, hint.New(fmt.Errorf("%s: there is no policy: no job of the configuration has it as a source or destination", p), job.GivePolicy)
	case 1:
		return all[0], nil
	}
	var names []string
	for _, j := range all {
		names = append(names, j.Name)
	}
	return nil, hint.New(fmt.Errorf("%s: several jobs have it: %s", p, strings.Join(names, ", ")), job.GivePolicy)
}

// ReadStore notes what the jobs that have a store, or something in it, tell of it.
func (c *Config) ReadStore(p job.Store, r *job.Reading) {
	for _, j := range c.Jobs {
		if j.Spec.Has(p) {
			r.Of[p.String()] = j.Spec.StoresAt(p)
			r.Folders = append(r.Folders, j.Spec.SnapshotFolders()...)
		}
	}
}

// Named gives the jobs of the names. The error is Complaints about those that there are not.
func (c *Config) Named(names []string) ([]*Job, error) {
	jobs, unknown := c.named(names)
	return jobs, unknown.Err()
}

// Chosen gives those, and all if there are no names.
func (c *Config) Chosen(names []string) ([]*Job, error) {
	if len(names) == 0 {
		return c.Jobs, nil
	}
	return c.Named(names)
}

func (c *Config) named(names []string) (jobs []*Job, unknown hint.Complaints) {
	for _, name := range names {
		if j := c.Job(name); j != nil {
			jobs = append(jobs, j)
		} else {
			unknown.Add("", c.among(name, c.JobNames()), "there is no job %q", name)
		}
	}
	return jobs, unknown
}

// CheckChoice gives Complaints about jobs, a tag and a disk to choose by, of which the latter two may be "".
func (c *Config) CheckChoice(names []string, tag, disk string) error {
	_, all := c.named(names)
	c.checkTag(tag, names, &all)
	if known := c.DiskNames(); disk != "" && !slices.Contains(known, disk) {
		all.Add("", c.among(disk, known), "there is no disk %q", disk)
	}
	return all.Err()
}

// checkTag complains of a tag that chooses nothing.
func (c *Config) checkTag(tag string, names []string, to *hint.Complaints) {
	var tagged []string
	for _, j := range c.Jobs {
		if slices.Contains(j.Tags, tag) {
			if j.Auto || len(names) > 0 {
				return
			}
			tagged = append(tagged, j.Name)
		}
	}
	switch {
	case tag == "":
	case len(tagged) > 0:
		to.Add("", "name them: btrfs-backup run "+strings.Join(tagged, " "), "no job with the tag %q is run by itself (auto = false)", tag)
	default:
		to.Add("", c.among(tag, c.Tags()), "no job has the tag %q", tag)
	}
}

// among gives the hint for a name that is unknown.
func (c *Config) among(name string, known []string) string {
	if len(known) == 0 {
		return "the configuration has none"
	}
	if near := c.nearest(name, known); near != "" {
		return "did you mean \"" + near + "\"?"
	}
	return "there are: " + strings.Join(known, ", ")
}
