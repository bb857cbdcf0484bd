package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
	"github.com/btrfs-backup/btrfs-backup/internal/inventory"
	"github.com/btrfs-backup/btrfs-backup/internal/picture"
)

// report gives the picture that is told in JSON. It has texts where it had errors.
func (m *machine) report() (p picture.Picture) {
	m.Helper()
	r := expect(m, exitDone, invoke(m, m.environ(), "report", "--json", "--timeout", "2m", "--config", m.file()))
	if err := json.Unmarshal([]byte(r.stdout), &p); err != nil {
		m.Fatalf("%v in %s", err, r.stdout)
	}
	return p
}

// pictured gives what a picture tells of versions as explain does, a line for each name.
func pictured(p picture.Place) map[string]string {
	told := make(map[string]string)
	for _, v := range p.Versions {
		verdict := "delete"
		if v.Keep {
			verdict = "keep"
		}
		told[v.Name] = verdict + ": " + strings.Join(v.Why, ", ")
		if !v.Goes.IsZero() {
			told[v.Name] += " until " + v.Goes.Format(time.DateOnly)
		}
	}
	return told
}

// explained gives what explain tells of a place at the time of the machine.
func (m *machine) explained(args ...string) map[string]string {
	m.Helper()
	var all []inventory.Decided
	r := expect(m, exitDone, invoke(m, m.environ(), append([]string{"explain", "--json"}, args...)...))
	btrfstest.Check(m, json.Unmarshal([]byte(r.stdout), &all))
	var place picture.Place
	for _, d := range all {
		place.Versions = append(place.Versions, picture.Version{Name: d.Name, Keep: d.Keep, Why: d.Reasons, Goes: d.Goes})
	}
	return pictured(place)
}

func TestAReportAgreesWithExplainAndStatus(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	etc, usb := makeDir(t, filepath.Join(m.dir, "etc")), smallFS(t).Dir
	write(t, filepath.Join(etc, "same"), strings.Repeat("same", 1000))
	m.configure(`
[default]
keep-snapshots = "2d"
keep-backups = "3d 2w"
[job.home]
source = "SOURCE"
destination = ["%[1]s/home", "%[1]s/gone"]
[job.etc]
source = "DIR/etc"
destination = "%[1]s/etc"
keep-backups = "last=3"
`, usb)
	for day := range 6 {
		write(t, filepath.Join(etc, "new"), strings.Repeat("new", 100+day))
		expect(t, exitDone, m.run())
		m.days(1)
	}
	btrfstest.Check(t, os.Rename(filepath.Join(usb, "gone"), filepath.Join(usb, "elsewhere")))
	p := m.report()
	if len(p.Jobs) != 2 || len(p.Jobs[0].Places) != 3 || len(p.Jobs[1].Places) != 1 || len(p.Jobs[0].Runs) != 6 || !p.Time.Equal(m.now) && p.Time.Sub(m.now) > time.Hour {
		t.Fatalf("%+v", p)
	}
	home, gone, snapshots, copied := p.Jobs[0].Places[0], p.Jobs[0].Places[1], p.Jobs[0].Places[2], p.Jobs[1].Places[0]
	wantExplained(t, pictured(home), m.explained("--keep-backups", "3d 2w", filepath.Join(usb, "home")))
	wantExplained(t, pictured(snapshots), m.explained("--keep-snapshots", "2d", m.source))
	wantExplained(t, pictured(copied), m.explained("--keep-backups", "last=3", filepath.Join(usb, "etc")))
	var told []struct{ Destinations []json.RawMessage }
	btrfstest.Check(t, json.Unmarshal([]byte(expect(t, exitDiffer, invoke(t, m.environ(), "status", "--json", "--config", m.file())).stdout), &told))
	for i, of := range told {
		for k, want := range of.Destinations {
			got, err := json.Marshal(p.Jobs[i].Places[k].Place)
			btrfstest.Check(t, err)
			// What depends on the moment is left out, and what is written in seconds.
			moment := regexp.MustCompile(`\s|"(free_bytes|max_age_seconds)":\s*\d+,?|"next_due":\s*"[^"]*",?`)
			if got, want := moment.ReplaceAllString(string(got), ""), moment.ReplaceAllString(string(want), ""); strings.Trim(got, ",}") != strings.Trim(want, ",}") {
				t.Errorf("it is judged as %s\nand not as %s", got, want)
			}
		}
	}
	if v := home.Versions[0]; v.Sent == nil || *v.Sent == 0 || v.Freed == nil || !v.Complete || len(home.Sent) != 6 || len(home.Room) < 5 || len(home.Outlook) == 0 || len(home.Outlook) > 5 {
		t.Errorf("%+v", home)
	}
	if v := copied.Versions[0]; v.Files != 2 || v.New == nil || *v.New != 315 || v.Linked == nil || *v.Linked != 4000 || v.Size == nil || *v.Size != 4315 {
		t.Errorf("%+v", v)
	}
	if v := gone.Versions; len(v) != 4 || !v[0].OnRecord || gone.Failure == nil || len(p.Warnings) == 0 || p.Warnings[0].Destination != gone.Destination {
		t.Errorf("%+v\n%+v", gone, p.Warnings)
	}
	page := filepath.Join(m.dir, "page.html")
	expect(t, exitDone, invoke(t, m.environ(), "report", "--html", page, "--config", m.file(), "home"))
	if text := readFile(t, page); !strings.Contains(text, home.Versions[0].Name) || strings.Contains(text, "/etc, daily") {
		t.Error(text)
	}
	expect(t, exitDone, invoke(t, m.environ(), "report", "--config", m.file()), "    now        ", "! home: "+gone.Destination+": NO ANSWER")
	expect(t, exitUsage, invoke(t, m.environ(), "report", "--serve", "0.0.0.0:80", "--config", m.file()), "can be reached from other machines", "ssh -L 80:")
	expect(t, exitUsage, invoke(t, m.environ(), "report", "--json", "--html", "-"), "are different outputs")
	expect(t, exitUsage, invoke(t, m.environ(), "report", "--config", m.file(), "hom"), `did you mean "home"?`)
}

func TestAServedReportShowsARunUnderWayUntilItEnds(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	usb := smallFS(t).Dir
	m.configure("[job.home]\nsource = \"SOURCE\"\ndestination = \"%s/home\"\n", usb)
	serve := exec.Command("btrfs-backup", "report", "--serve", "127.0.0.1:0", "--config", m.file())
	m.now = m.now.Add(time.Hour) // no backup is of its future
	serve.Env = append(os.Environ(), m.environ()...)
	m.now = m.now.Add(-time.Hour)
	out, err := serve.StdoutPipe()
	btrfstest.Check(t, err)
	btrfstest.Check(t, serve.Start())
	var url string
	_, err = fmt.Fscan(out, &url)
	btrfstest.Check(t, err)
	get := func(path string) string {
		t.Helper()
		r, err := http.Get(url + path)
		btrfstest.Check(t, err)
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		btrfstest.Check(t, err)
		return string(body)
	}
	if page := get(""); !strings.Contains(page, "NEVER") || strings.Contains(page, "under way for") {
		t.Errorf("before: %s", page)
	}
	hold := makeDir(t, filepath.Join(m.dir, "hold"))
	cmd := m.command("--quiet")
	cmd.Env = append(cmd.Env, testOnlyHoldAt+"=received="+hold)
	run := start(t, cmd)
	run.says(heldAt + "received")
	title := usb + "/home: " + m.snapshots()[0] + ":"
	for told := ""; !strings.Contains(told, title); told = get("progress") {
		time.Sleep(50 * time.Millisecond)
	}
	if told := get("progress"); !regexp.MustCompile(fmt.Sprintf(`<b>job home</b> <span class="dim">under way for \d+ min, process %d</span>`, cmd.Process.Pid)).MatchString(told) {
		t.Error(told)
	}
	remove(t, hold)
	expect(t, exitDone, run.wait())
	if page := get(""); get("progress") != "" || !strings.Contains(page, ">good</span>") || !strings.Contains(page, "done, status 0") {
		t.Errorf("at the end: %s", page)
	}
	btrfstest.Check(t, serve.Process.Signal(syscall.SIGINT))
	if err := serve.Wait(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}
