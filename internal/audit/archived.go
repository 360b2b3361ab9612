package audit

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/lastseat/lastseat/internal/archive"
	"github.com/lastseat/lastseat/internal/history"
)

// archived is the check of the files in a directory to which retention has written what it removed: the history goes on
// from them to the database.
func archived(dir string) Check {
	return Check{
		Name: "archive.files",
		Rule: "every request and transfer that was archived is in the file of its link of the history, as it was settled",
		run: func(ctx context.Context, tx pgx.Tx, _ *Seal) ([]string, error) {
			links, err := read(ctx, tx, "archived", linkPage, scanLink, `
				SELECT h.chain, h.number, h.at, h.relation, h.keys, h.digests, h.hash FROM lastseat.history h
				WHERE h.chain = '`+history.Removal+`' AND h.relation IN ('`+history.Requests+history.Archived+`',
				  '`+history.Transfers+history.Archived+`')
				ORDER BY h.number`)
			if err != nil {
				return nil, err
			}
			var broken []string
			for len(broken) < mostViolations {
				link, err := links.peek(ctx)
				if err != nil || link == nil {
					return broken, err
				}
				if err := archive.Prove(dir, &link.Link); err != nil {
					broken = append(broken, err.Error())
				}
				links.take()
			}
			return broken, nil
		},
	}
}
