module github.com/locksmith-reboot/locksmith

go 1.26
