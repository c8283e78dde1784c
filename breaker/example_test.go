package breaker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weirhq/weir/breaker"
	"github.com/weirhq/weir/sfapi"
)

// A write meets read-only mode; the org's writes are held until a probe and a
// trial write say that it is over.
func ExampleBreaker_Next() {
	b, err := breaker.New(nil)
	if err != nil {
		panic(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	state := breaker.State{Org: "00D5g000000AbCdEAK"}
	step := func(obs breaker.Observation) {
		var effects []breaker.Effect
		state, effects = b.Next(state, obs, now)
		for _, e := range effects {
			switch e := e.(type) {
			case breaker.HoldPlaced:
				fmt.Println("held:", e.Hold.Reason, e.Hold.Lanes)
			case breaker.HoldLifted:
				fmt.Println("lifted:", e.Hold.Reason)
			case breaker.SetWindow:
				fmt.Println("window of", e.Lane, "is", e.Window)
			case breaker.EmitEvent:
				fmt.Println("event:", e.Type)
			case breaker.ScheduleProbe:
				fmt.Println("probe in", e.At.Sub(now))
			}
		}
	}
	step(breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance))
	now = now.Add(30 * time.Second)
	step(breaker.Probed(breaker.ReasonMaintenance, true))
	now = now.Add(time.Second)
	step(breaker.Succeeded(breaker.Write, breaker.Mutate))
	// Output:
	// held: maintenance write
	// window of write is 0
	// event: org.held
	// probe in 30s
	// window of write is 1
	// probe in 30s
	// lifted: maintenance
	// event: org.resumed
}

// The decision before each call.
func ExampleState_Allows() {
	b, err := breaker.New(nil)
	if err != nil {
		panic(err)
	}
	state := breaker.State{Org: "00D5g000000AbCdEAK"}
	state, _ = b.Next(state, breaker.Failed(breaker.Write, breaker.Mutate, sfapi.KindMaintenance), time.Now())
	for _, use := range []breaker.Use{breaker.Read, breaker.BulkRead} {
		reason, ok := state.Allows(breaker.Sync, use)
		fmt.Printf("%v %q\n", ok, reason)
	}
	// Output:
	// true ""
	// false "maintenance"
}

func ExampleState_Refuse() {
	b, err := breaker.New(nil)
	if err != nil {
		panic(err)
	}
	state := breaker.State{Org: "00D5g000000AbCdEAK"}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	state, _ = b.Next(state, breaker.Paused(breaker.LanesOf(breaker.Write)), at)
	err = state.Refuse(breaker.Write, breaker.Mutate)
	var held *breaker.HeldError
	fmt.Println(errors.As(err, &held), err)
	// Output:
	// true org 00D5g000000AbCdEAK: write is held since 2026-03-01T12:00:00Z: operator
}

// What each answer does.
func ExampleKindRules() {
	for _, rule := range breaker.KindRules() {
		fmt.Println(rule)
	}
	// Output:
	// ok: nothing
	// session_expired_or_invalid: hold undetermined
	// wrong_instance: hold wrong_instance
	// ip_restricted: hold ip_restricted
	// app_not_allowed: hold app_not_allowed
	// revoked: hold reauth
	// user_inactive: hold user_inactive
	// org_inactive: hold org_inactive
	// maintenance_readonly: hold maintenance
	// server_unavailable: count unavailable
	// daily_limit: hold daily_limit
	// concurrent_limit: shrink
	// login_rate_limited: hold login_rate
	// row_lock: nothing
	// query_timeout: nothing
	// invalid_query_locator: nothing
	// bad_request: nothing
	// not_found: nothing
	// permission: nothing
	// validation: nothing
	// duplicate: nothing
	// storage_limit: hold storage_limit
	// conflict: nothing
	// api_disabled: hold api_disabled
	// version_retired: nothing
	// client_misconfigured: hold client_config
	// unknown: nothing
}

// How each hold ends.
func ExampleReasonRules() {
	for _, rule := range breaker.ReasonRules() {
		fmt.Println(rule)
	}
	// Output:
	// maintenance: lanes write, ends by probe+trial, probe organization, pace normal
	// unavailable: lanes its own, ends by probe+trial, probe call, pace normal
	// daily_limit: lanes sync+write, ends by probe, probe limits, pace daily
	// login_rate: lanes sync+write, ends by probe+time, probe token
	// reauth: lanes sync+write, ends by reconnect, cancels jobs, asks to reconnect
	// ip_restricted: lanes sync+write, ends by probe+reconnect, probe call, pace slow
	// app_not_allowed: lanes sync+write, ends by probe+reconnect, probe call, pace slow
	// user_inactive: lanes sync+write, ends by probe+reconnect, probe token, pace slow, asks to reconnect
	// org_inactive: lanes sync+write, ends by probe+reconnect, probe token, pace slow, cancels jobs
	// api_disabled: lanes sync+write, ends by probe+reconnect, probe call, pace slow
	// wrong_instance: lanes sync+write, ends by probe+reconnect, probe token, pace slow
	// storage_limit: lanes write, ends by probe, probe limits, pace slow
	// client_config: lanes sync+write, ends by probe+reconnect, probe token, pace slow
	// operator: lanes its own, ends by operator
	// undetermined: lanes sync+write, ends by probe+reconnect, probe call, pace slow
}

func ExampleLane_Queue() {
	queue := breaker.Write.Queue("00D5g000000AbCdEAK")
	org, lane, ok := breaker.ParseQueue(queue)
	fmt.Println(queue, breaker.Write.RunQueue())
	fmt.Println(org, lane, ok)
	// Output:
	// sf_00d5g000000abcdeak_write sf_run_write
	// 00d5g000000abcdeak write true
}

func ExampleLanes() {
	data, err := json.Marshal(breaker.BothLanes)
	fmt.Println(string(data), err)
	// Output:
	// ["sync","write"] <nil>
}

func ExampleBreaker_ProbeDelay() {
	b, err := breaker.New(nil)
	if err != nil {
		panic(err)
	}
	for step := range 7 {
		fmt.Print(b.ProbeDelay(breaker.PaceNormal, step, 0), " ")
	}
	// Output:
	// 30s 1m0s 2m0s 4m0s 8m0s 15m0s 15m0s
}

func ExampleCounters() {
	b, err := breaker.New(&breaker.Config{FailureThreshold: 2})
	if err != nil {
		panic(err)
	}
	c := breaker.NewCounters(b)
	for range 3 {
		call, err := c.Begin("00D5g000000AbCdEAK", breaker.Sync)
		if err != nil {
			fmt.Println(errors.Is(err, breaker.ErrTripped))
			return
		}
		fmt.Println(call.End(sfapi.KindServerUnavailable), "in a row")
	}
	// Output:
	// 1 in a row
	// 2 in a row
	// true
}
