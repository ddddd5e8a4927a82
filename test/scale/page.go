package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// sections are what the program writes into the page, by the names of their marks.
var sections = map[string]func(result) (string, error){
	"growth":    growth,
	"rollouts":  rolloutTable,
	"reckoning": reckoning,
}

func marks(name string) (begin, end string) {
	return "<!-- made by make scale-plots: " + name + " -->\n", "<!-- end of " + name + " -->\n"
}

// fillPage puts the sections into a page that has their marks.
func fillPage(page string, r result) (string, error) {
	for name, write := range sections {
		begin, end := marks(name)
		before, rest, ok := strings.Cut(page, begin)
		_, after, ended := strings.Cut(rest, end)
		if !ok || !ended {
			return "", fmt.Errorf("the page has no marks for %q", name)
		}
		text, err := write(r)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		page = before + begin + "\n" + text + "\n" + end + after
	}
	return page, nil
}

// writePage writes the sections into the file of the page.
func writePage(file string) error {
	r, err := recorded()
	if err != nil {
		return err
	}
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	filled, err := fillPage(string(page), r)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(filled), 0o644)
}

// growth has a line for each figure that was taken of fleets of several sizes.
func growth(r result) (string, error) {
	sizes := []int{100, 1000, 10_000}
	lines := []string{"| | 100 machines | 1,000 | 10,000 |", "|---|---|---|---|"}
	var names []string
	for _, f := range r.Figures {
		if !strings.HasPrefix(f.Name, "rollout") && slices.Contains(sizes, f.Machines) && !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
	}
	for _, name := range names {
		line := "| " + name
		for _, n := range sizes {
			cell := "–"
			for _, f := range r.Figures {
				if f.Name == name && f.Machines == n {
					cell = number(f.Measured, f.Unit)
				}
			}
			line += " | " + cell
		}
		lines = append(lines, line+" |")
	}
	return strings.Join(lines, "\n") + "\n", nil
}

// rolloutTable is the figures of the rollouts and of presence, as the program prints them.
func rolloutTable(r result) (string, error) {
	var chosen []figure
	for _, f := range r.Figures {
		if strings.HasPrefix(f.Name, "rollout") || strings.HasPrefix(f.Name, "presence") {
			chosen = append(chosen, f)
		}
	}
	var table strings.Builder
	printFigures(&table, chosen)
	var out strings.Builder
	for line := range strings.Lines(table.String()) {
		out.WriteString("    " + line)
	}
	return out.String(), nil
}
