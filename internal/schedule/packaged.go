package schedule

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// packagedUnits is where packages have their units. Those of the same name in /etc count in their place.
const packagedUnits = "/usr/lib/systemd/system"

// packagedPath is where a package has a unit; "" for what is none of the system.
func packagedPath(path string) string {
	dir, name := filepath.Split(path)
	if filepath.Clean(dir) != systemUnits {
		return ""
	}
	return filepath.Join(packagedUnits, name)
}

// Packaged gives the units of a package of the program. Installing it starts none of them; Install uses and starts them.
func Packaged(program string) (files []File) {
	for _, f := range (Setup{Program: program, Disks: []Disk{{Name: "any", UUID: "any"}}}).Units() {
		if f.Path = packagedPath(f.Path); f.Path != "" {
			files = append(files, f)
		}
	}
	return files
}

// isPackaged tells that a package has this very file.
func (f File) isPackaged(root string) (bool, error) {
	path := packagedPath(f.Path)
	if path == "" {
		return false, nil
	}
	content, err := os.ReadFile(filepath.Join(root, path))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return string(content) == f.Content, err
}
