package picture

import (
	"encoding/xml"
	"errors"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/internal/report"
	"github.com/btrfs-backup/btrfs-backup/internal/standing"
	"github.com/btrfs-backup/btrfs-backup/internal/underway"
)

func pageOf(t testing.TB, p Picture) string {
	t.Helper()
	var page strings.Builder
	check(t, p.WriteHTML(&page))
	return page.String()
}

// elements reads a page strictly, and gives how often it has each element, and its texts.
func elements(t *testing.T, page string) (names map[string]int, text string) {
	t.Helper()
	names = make(map[string]int)
	ids := make(map[string]bool)
	var all strings.Builder
	for d := xml.NewDecoder(strings.NewReader(page)); ; {
		token, err := d.Token()
		if err == io.EOF {
			return names, all.String()
		}
		check(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			names[token.Name.Local]++
			for _, a := range token.Attr {
				if name := a.Name.Local; strings.HasPrefix(name, "on") || name == "style" || name == "src" {
					t.Errorf("%s has %s", token.Name.Local, name)
				}
				if a.Name.Local == "id" && ids[a.Value] {
					t.Errorf("%s is there twice", a.Value)
				}
				if a.Name.Local == "id" {
					ids[a.Value] = true
				}
				if value, isLink := strings.CutPrefix(a.Value, "#"); a.Name.Local == "href" && a.Value != "data:," && (!isLink || strings.ContainsAny(value, ":/")) {
					t.Errorf("it refers to %s", a.Value)
				}
			}
		case xml.CharData:
			all.Write(token)
		}
	}
}

func TestThePageIsWellFormedAndNeedsNothingElse(t *testing.T) {
	page := pageOf(t, example())
	if dir := os.Getenv("PICTURE_TO"); dir != "" { // to be looked at
		for name, p := range map[string]Picture{"example": example(), "year": large(1, 365, ""), "large": large(5, 200, "")} {
			check(t, os.WriteFile(filepath.Join(dir, name+".html"), []byte(pageOf(t, p)), 0o644))
		}
	}
	names, text := elements(t, page)
	for name, want := range map[string]int{"h1": 1, "main": 1, "nav": 1, "h2": 3, "h3": 5, "script": 0, "progress": 1, "caption": 7, "img": 0, "style": 1} {
		if names[name] != want {
			t.Errorf("%d of %s, not %d", names[name], name, want)
		}
	}
	if names["title"] < 150 || names["th"] < 200 || names["figure"] < 12 {
		t.Errorf("%v", names)
	}
	for _, want := range []string{
		"1 of 4 destinations not good", "home at root@nas:/backup/laptop/home:", "LATE (> 2 d): the newest is of 2026-11-26 09:41, 3 d ago",
		"20261126-013103 is damaged, as verified 2026-11-27", "is sshd running there?", "105 MiB of 220 MiB (47 %), 18 MiB/s, 6.0 s left",
		"20261129-013100, 12 MiB, until 2026-12-13: the newest, day 1 of 14", "goes with the next run: 20261115-013114", "In a year, if it goes on so: 34 backups by 14d 8w 12m *y",
		"next 2026-11-30 00:00", "verified 2026-11-28: 20261128-013101", "policy: 14d 8w 12m *y", "partly done, status 3", "on record", "and 2 older: 2025-01-01, 2024-06-13",
		"New", "Linked", "2451", "123 KiB", "8.0 MiB", "Sent a week", "Free space, between 410 GiB and 502 GiB", "25 snapshots",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not tell %q", want)
		}
	}
	if strings.Index(text, "is damaged") > strings.Index(text, "8 h old") {
		t.Error("the warnings are not the first")
	}
	style := page[strings.Index(page, "<style>")+len("<style>") : strings.Index(page, "</style>")]
	if policy := Directive(""); style != pageCSS || !strings.Contains(html.UnescapeString(page), policy) || strings.Contains(policy, "script-src") {
		t.Errorf("the policy does not allow the style: %s", policy)
	}
	if found := regexp.MustCompile(`(?i)(https?:|url\([^#]|@import)`).FindString(page); found != "" {
		t.Errorf("it refers to %s", found)
	}
}

func TestAYearOfDailyBackupsFitsInto100KB(t *testing.T) {
	for _, policy := range []string{"", "365d"} {
		if size := len(pageOf(t, large(1, 365, policy))); size > 100_000 {
			t.Errorf("%q: %d bytes", policy, size)
		}
	}
}

// hostile is text as another machine may send it.
const hostile = "</style></title><script>alert(1)</script>\"'&\x1b[2J\u202eevil\n\x9b\xff"

func hostilePicture() Picture {
	p := large(2, 3, "")
	failure := engine.Failure{Err: errors.New(hostile)}
	place := &p.Jobs[0].Places[0]
	place.Destination, place.Failure, place.State = hostile, &failure, standing.Unknown
	place.Versions[0].Name, place.Versions[0].Why, place.Versions[0].Notes, place.Versions[0].Damaged = hostile, []string{hostile}, []string{hostile}, true
	p.Machine, p.Jobs[0].Name, p.Jobs[0].Source = hostile, hostile, hostile
	p.Jobs[0].Runs[0] = report.Run{Time: now, Outcome: engine.Failed, Skipped: hostile, Failures: []engine.Failure{failure},
		Destinations: []report.Destination{{Destination: hostile, Saved: []string{hostile}}}}
	p.Running = []underway.Run{{Job: hostile, Source: hostile, Transfers: []progress.Now{{Title: hostile}}}}
	p.warn(standing.Job{Name: hostile, Failure: &failure, LastRun: &p.Jobs[0].Runs[0]}, &p.Jobs[0])
	return p
}

func TestWhatOthersTellDoesNothingToThePage(t *testing.T) {
	page := pageOf(t, hostilePicture())
	if names, _ := elements(t, page); names["script"] > 0 || strings.ContainsAny(page, "\x1b\u202e\x9b\xff") || strings.Count(page, "alert(1)") < 10 {
		t.Errorf("%v", names)
	}
}

func TestACellOfTheCalendarIsTheDayOfABackup(t *testing.T) {
	p := kept("/mnt/usb/home", "14d 8w 12m *y", 900)
	c, cells := p.Present(now), 0
	for i, day := range c.Days {
		for _, v := range day.Versions {
			cells++
			if got, want := c.date(i).Format("20060102"), v.Name[:8]; got != want {
				t.Errorf("%s is shown on %s", v.Name, got)
			}
		}
	}
	if cells+len(c.Before) != len(p.Versions) || c.Beyond > 0 || c.index(now) != len(c.Days)-1 { // a Sunday
		t.Errorf("%d of %d are shown, and %d older", cells, len(p.Versions), len(c.Before))
	}
	future := p.Future(now.AddDate(1, 0, 0))
	if shown := 0; len(future.Before) != 3 || future.Beyond != 0 {
		t.Errorf("%d, %d older, %d later", shown, len(future.Before), future.Beyond)
	}
}

func TestAPageForADirectoryThatIsNotThereSaysSo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "no such")
	err := example().WriteFile(filepath.Join(dir, "x.html"))
	if err == nil || err.Error() != "there is no directory "+dir || !strings.Contains(hint.Of(err), "mkdir -p '"+dir+"'") {
		t.Errorf("%v, hint: %s", err, hint.Of(err))
	}
}
