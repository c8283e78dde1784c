package runner_test

import (
	"context"
	"database/sql"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/jobs"
	"github.com/weirhq/weir/runner"
	"github.com/weirhq/weir/sfapi"
)

// Who polls goes on from the last id that he got.
func ExampleRunner_Events() {
	ctx := context.Background()
	service := newExampleService(jobs.NewHandlers[*sql.Tx]())
	defer service.close(ctx)
	org := service.connect(ctx)
	for range 2 {
		_, err := service.weir.Orgs().Hold(ctx, org, breaker.Write)
		check(err)
		_, err = service.weir.Orgs().Resume(ctx, org)
		check(err)
	}
	for after := int64(0); ; {
		page, err := service.weir.Events(ctx, after, 3)
		check(err)
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			fmt.Println(e.Type, e.Reason, e.Lanes)
			after = e.ID
		}
	}
	// Output:
	// org.held operator write
	// org.resumed operator write
	// org.held operator write
	// org.resumed operator write
}

// A reconnect puts back what was cancelled.
func ExampleOrgs_Connect_requeue() {
	ctx := context.Background()
	service := newExampleService(jobs.NewHandlers[*sql.Tx]())
	defer service.close(ctx)
	org := service.connect(ctx)
	receipt, err := service.weir.Write(ctx, &jobs.Write{
		Org: org, Object: "Contact", Operation: jobs.Insert, Records: []map[string]any{{"LastName": "Ångström"}},
	})
	check(err)
	check(service.weir.Orgs().Disconnect(ctx, org))
	counts, err := service.weir.Writes().Counts(ctx, org, receipt.ID)
	check(err)
	fmt.Println("disconnected:", counts.Cancelled, "cancelled,", counts.Pending, "pending")

	_, _, err = service.weir.Orgs().Connect(ctx, &runner.ConnectParams{
		RefreshToken: sfapi.Secret(service.org.Grant()), Org: org, Requeue: true,
	})
	check(err)
	counts, err = service.weir.Writes().Counts(ctx, org, receipt.ID)
	check(err)
	fmt.Println("connected:", counts.Cancelled, "cancelled,", counts.Pending, "pending")
	// Output:
	// disconnected: 1 cancelled, 0 pending
	// connected: 0 cancelled, 1 pending
}

// While a secret changes, both sign; neither is ever printed.
func ExampleWebhook() {
	secret := func(b string) sfapi.Secret {
		return sfapi.Secret("whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(b, 32))))
	}
	config := runner.Config[*sql.Tx]{Webhook: &runner.Webhook{
		URL:     "https://example.com/hooks/weir",
		Secrets: []sfapi.Secret{secret("n"), secret("o")},
	}}
	fmt.Println(config.Webhook.Secrets)
	// Output: [REDACTED REDACTED]
}
