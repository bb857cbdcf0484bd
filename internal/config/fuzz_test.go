package config

import (
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

const everything = `
log = "/var/log/b"
[default]
keep-backups = "14d 8w 12m *y"
exclude = ["*.bak", 'a\b']
[interval]
six-hourly = "6h"
[exclude.caches]
exclude = [".cache/**"]
skip-dir = "tmp"
[disk.usb]
mount = "/mnt/usb"
when-absent = "skip"
[[hook]]
before = ["true"]
[notify]
on = ["failure"]
mail-to = "root"
[job.home]
source = "/home"
destination = ["/mnt/usb/home", "root@nas:/backup/%h"]
every = "six-hourly"
exclude-lists = ["caches"]
ssh-sudo = true
num-backups = 1_0
max-age = "2d"
[job.home.to."root@nas:/backup/%h"]
keep-backups = "30d *w"
[[job.home.hook]]
name = "db"
before = ["true", "-x"]
around = "snapshot"
timeout = "2m"
[job.etc]
source = "/etc\u0001\u007f<&\u2028"
like = "home"
[job.system]
set = { root = "/", "etc" = "/etc" }
copy = "inside"
`

var place = regexp.MustCompile(`config\.toml(:[1-9][0-9]*: |: there is no job in it)`)

// FuzzRead reads any bytes as a file: what is wrong has a line, and what `config show` tells of jobs makes the same jobs.
func FuzzRead(f *testing.F) {
	for _, text := range []string{everything, "[job.home]\nsource='/home'\nlike='home'", "a=[[1,inf,-nan,0xff,2026-01-02,{b.c=1}]]",
		"[job.\"\\u0000\\u001b[2J\"]\nsource=\"/a\\nb\"\n", "[job.a]\nsource='/a'\n[job.a.to]\n", "job=1\ndefault=2\n[[disk]]\n",
		"[job.a]\nsource='/a'\nnum-backups=99999999999999999999", "[job.a]\nsource='/a'\nexclude=[[]]\nto=1.5",
		"[default]\nsource='/x\\u007f&'\ndestination='nas:/b'\nto.\"nas:/b\".max-age='1h'\n[job.a]\n[job.b]"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := read(t, text)
		if text == everything && err != nil {
			t.Fatal(err)
		}
		var all hint.Complaints
		if errors.As(err, &all) {
			for _, one := range all {
				if !place.MatchString(one.Error()) || hint.Of(one) == "" {
					t.Errorf("no line or no hint: %s (%s)", one, hint.Of(one))
				}
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := read(t, written(t, text, c))
		if err != nil {
			t.Fatalf("%v\n%s", err, written(t, text, c))
		}
		for i, j := range c.Jobs {
			other := again.Jobs[i]
			j.Spec.Shared, other.Spec.Shared = nil, nil // they have their own lines now
			if told(j) != told(other) || j.Every != other.Every || !reflect.DeepEqual(j.Spec, other.Spec) || !reflect.DeepEqual(j.Hooks, other.Hooks) {
				t.Errorf("%s\nbecame\n%s", told(j), told(other))
			}
		}
	})
}

func told(j *Job) string {
	text := "[job." + j.Name + "]\n"
	for _, l := range j.Lines() {
		text += l.Key + " = " + l.Value + "\n"
	}
	return text
}

// written writes the jobs of a file as they are shown, and the tables that they refer to.
func written(t *testing.T, text string, c *Config) string {
	root, err := parse("", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, key := range []string{"interval", "exclude"} {
		if v, ok := root.values[key]; ok {
			b.WriteString(key + " = " + v.String() + "\n")
		}
	}
	for _, j := range c.Jobs {
		b.WriteString(strings.Replace(told(j), j.Name, quoteKey(j.Name), 1))
	}
	return b.String()
}
