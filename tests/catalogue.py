"""The fault catalogue: every fault that the daemon must survive, and the tests that show that it does.

The ids are those of RELIABILITY 6.4 to 6.8: U for upstreams, C for clients, M for malicious HTTP, G for the
configuration, O for process and operations. `tests/test_catalogue.py` holds the table to its word.
"""

from __future__ import annotations

from dataclasses import dataclass

ROWS = {"U": 45, "C": 23, "M": 27, "G": 18, "O": 24}
"""How many rows each letter has, numbered from 1."""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault."""

    fault: str
    """What happens, in a few words."""
    tests: tuple[str, ...]
    """Below `tests/`: file and function. Together they show what the row demands."""
    absent: str = ""
    """Why it cannot happen here, so that there is nothing to test."""


def held(fault: str, *tests: str) -> Row:
    return Row(fault, tests)


def absent(fault: str, reason: str) -> Row:
    return Row(fault, (), absent=reason)


UPSTREAM = {
    "U1": held(
        "connection refused",
        "relay/test_failover.py::test_a_refused_connection_fails_over",
        "policy/test_target.py::test_a_host_that_cannot_be_reached_is_out_for_all_models",
    ),
    "U2": held(
        "connecting is never answered",
        "relay/test_failover.py::test_a_connection_that_does_not_come_about_fails_over",
        "relay/test_faults_upstream.py::test_a_black_hole_costs_its_deadline_once",
    ),
    "U3": held(
        "the name does not resolve, or the resolver is silent",
        "relay/test_faults_upstream.py::test_a_name_that_does_not_resolve_fails_over",
        "relay/test_faults_upstream.py::test_the_last_good_addresses_serve_while_the_resolver_fails",
        "relay/test_faults_upstream.py::test_one_question_to_the_resolver_serves_everybody",
    ),
    "U4": held(
        "the name leads to another address",
        "relay/test_faults_upstream.py::test_a_name_that_moved_is_followed",
        "relay/test_pressure.py::test_a_name_that_leads_elsewhere_is_followed_while_streams_run",
    ),
    "U5": held(
        "the certificate is expired, or for another name",
        "relay/test_tls.py::test_an_unproven_upstream_gets_nothing",
        "relay/test_tls.py::test_a_plain_server_behind_https_is_no_upstream",
        "relay/test_faults_upstream.py::test_an_expired_certificate_is_none",
        "relay/test_pressure.py::test_a_certificate_that_expires_meanwhile",
    ),
    "U6": held("reset after the request", "relay/test_failover.py::test_another_member_answers"),
    "U7": held(
        "an idle connection closes as we write", "relay/test_members.py::test_a_stale_connection_is_replaced_in_silence"
    ),
    "U8": held(
        "accepts and never answers",
        "relay/test_failover.py::test_a_silent_member_is_left",
        "relay/test_failover.py::test_the_total_deadline_ends_everything",
    ),
    "U9": held(
        "429 with a wait",
        "relay/test_members.py::test_a_rate_limited_member_is_left_alone",
        "relay/test_members.py::test_when_all_are_rate_limited_the_client_learns_when_to_return",
        "relay/test_limits.py::test_failover_charges_once",
    ),
    "U10": held(
        "429 with an absurd wait",
        "relay/test_faults_upstream.py::test_an_absurd_wait_is_not_believed",
        "policy/test_cooldown.py::test_what_the_upstream_asks_for_is_honoured",
        "protocol/test_durations.py::test_what_is_no_wait_is_none",
    ),
    "U11": held(
        "one of several refuses everything at once",
        "relay/test_faults_upstream.py::test_a_storm_of_429_at_one_member_reaches_no_client",
        "policy/test_picker.py::test_a_black_hole_draws_hardly_anything",
    ),
    "U12": held(
        "a burst of 500, 502, 504",
        "relay/test_members.py::test_a_failing_member_is_ejected_and_tried_again",
        "policy/test_breaker.py::test_five_hard_failures_in_a_row_eject",
        "policy/test_breaker.py::test_exactly_one_probation_request",
    ),
    "U13": held(
        "503 while the model loads", "relay/test_faults_upstream.py::test_a_model_that_still_loads_is_waited_out"
    ),
    "U14": held(
        "our credential is refused",
        "relay/test_failover.py::test_a_client_never_sees_our_credentials_refused",
        "policy/test_target.py::test_a_refused_credential_is_out_after_three",
    ),
    "U15": held(
        "the deployment does not exist",
        "relay/test_failover.py::test_another_member_answers",
        "relay/test_failover.py::test_when_all_fail_the_status_says_whose_fault_it_was",
        "policy/test_cooldown.py::test_three_refusals_in_a_row_are_a_misconfiguration",
    ),
    "U16": held("the prompt is too long", "relay/test_failover.py::test_the_clients_own_errors_pass_unchanged"),
    "U17": held(
        "a page of HTML",
        "relay/test_failover.py::test_when_all_fail_the_status_says_whose_fault_it_was",
        "relay/test_faults_upstream.py::test_a_page_under_200_is_no_answer",
    ),
    "U18": held(
        "an error under 200",
        "relay/test_failover.py::test_an_error_under_200_gets_the_status_it_names",
        "policy/test_outcomes.py::test_an_error_under_200_is_judged_as_if_it_had_its_status",
    ),
    "U19": held(
        "a whole body where a stream was asked for",
        "relay/test_failover.py::test_another_member_answers",
        "relay/test_failover.py::test_json_is_not_taken_for_a_stream_however_long",
    ),
    "U20": held("the first event is an error", "relay/test_failover.py::test_another_member_answers"),
    "U21": held(
        "cut after the role chunk",
        "relay/test_failover.py::test_another_member_answers",
        "relay/test_failover.py::test_the_held_role_chunk_of_a_lost_attempt_is_dropped",
    ),
    "U22": held(
        "cut after content",
        "relay/test_streams.py::test_a_stream_that_breaks_ends_as_broken",
        "relay/test_limits.py::test_tokens_are_settled_exactly",
        "policy/test_target.py::test_streams_that_are_always_cut_eject",
    ),
    "U23": held(
        "cut inside an event, inside a character",
        "relay/test_streams.py::test_a_stream_that_breaks_ends_as_broken",
        "protocol/test_streams.py::test_places_of_the_cuts_mean_nothing",
    ),
    "U24": held(
        "a clean end without marker and finish reason",
        "relay/test_streams.py::test_a_stream_that_breaks_ends_as_broken",
        "relay/test_streams.py::test_every_choice_has_to_finish",
    ),
    "U25": held(
        "a finish reason and no marker",
        "relay/test_streams.py::test_a_missing_done_is_added",
        "relay/test_streams.py::test_a_cut_after_the_finish_reason_is_a_whole_answer",
    ),
    "U26": held(
        "the marker, and the connection stays open",
        "relay/test_streams.py::test_done_ends_the_answer_though_the_upstream_holds_on",
    ),
    "U27": held(
        "silence in mid-stream",
        "relay/test_streams.py::test_a_stream_that_breaks_ends_as_broken",
        "relay/test_streams.py::test_silence_is_filled_with_heartbeats",
    ),
    "U28": held(
        "a long silence before the first token",
        "relay/test_streams.py::test_a_held_stream_goes_on_when_content_comes",
        "relay/test_streams.py::test_a_silent_stream_is_kept_alive_and_still_fails_over",
    ),
    "U29": held(
        "fields, marks and line ends beside the data",
        "relay/test_bytes.py::test_a_stream_arrives_byte_for_byte",
        "relay/test_bytes.py::test_a_leading_bom_is_dropped",
        "relay/test_faults_upstream.py::test_what_stands_beside_the_data_hides_no_event",
    ),
    "U30": held(
        "a line without an end",
        "relay/test_streams.py::test_a_large_event_arrives_whole",
        "relay/test_streams.py::test_no_heartbeat_inside_an_event",
        "relay/test_faults_upstream.py::test_an_endless_line_is_not_hoarded",
    ),
    "U31": held("a head that drips", "relay/test_faults_upstream.py::test_a_head_that_drips_has_a_deadline"),
    "U32": held(
        "every byte in a packet of its own",
        "relay/test_bytes.py::test_the_upstreams_framing_does_not_show",
        "relay/test_bytes.py::test_a_stream_arrives_byte_for_byte",
        "protocol/test_sse.py::test_long_lines_in_crumbs_are_searched_once",
    ),
    "U33": held("a body shorter than its framing", "relay/test_failover.py::test_another_member_answers"),
    "U34": held(
        "an answer that is no HTTP",
        "relay/test_failover.py::test_another_member_answers",
        "relay/test_failover.py::test_when_all_fail_the_status_says_whose_fault_it_was",
    ),
    "U35": held(
        "101, 204, 304, 307, 999",
        "relay/test_failover.py::test_when_all_fail_the_status_says_whose_fault_it_was",
        "relay/test_faults_upstream.py::test_a_status_that_answers_nothing_is_no_answer",
        "relay/test_faults_upstream.py::test_a_redirect_is_not_followed",
    ),
    "U36": held(
        "bytes behind the answer",
        "relay/test_bytes.py::test_extra_bytes_after_an_answer_meet_nobody",
        "relay/test_beyond.py::test_an_answer_that_nobody_asked_for_meets_nobody",
        "relay/test_beyond.py::test_two_final_answers_to_one_request",
    ),
    "U37": held(
        "compressed though nobody asked, or broken",
        "relay/test_streams.py::test_a_compressed_stream_arrives_readable",
        "relay/test_streams.py::test_a_compressed_stream_cannot_explode",
        "relay/test_faults_upstream.py::test_a_broken_coding_is_no_answer",
        "protocol/test_coding.py::test_one_read_of_a_stream_has_a_bound",
    ),
    "U38": held(
        "usage is missing, negative, absurd",
        "relay/test_faults_upstream.py::test_odd_usage_poisons_no_limit",
        "relay/test_beyond.py::test_usage_at_odd_places_is_charged_once",
        "policy/test_limits.py::test_absurd_usage_locks_out_for_ten_minutes_at_most",
        "protocol/test_usage.py::test_no_report_raises_or_gives_nonsense",
    ),
    "U39": held(
        "another model's name, ids that change",
        "relay/test_faults_upstream.py::test_odd_names_and_ids_in_chunks_pass",
        "relay/test_bytes.py::test_a_whole_answer_arrives_byte_for_byte",
    ),
    "U40": held(
        "the first tier is down, the second is not",
        "relay/test_members.py::test_a_failing_member_is_ejected_and_tried_again",
        "policy/test_pool.py::test_the_lowest_tier_that_can_serves",
    ),
    "U41": held(
        "everything is down, then up",
        "relay/test_faults_upstream.py::test_after_everything_was_down_everything_is_used_again",
        "policy/test_breaker.py::test_open_times_differ",
        "policy/test_breaker.py::test_exactly_one_probation_request",
    ),
    "U42": held(
        "up and down again and again",
        "policy/test_breaker.py::test_flapping_is_ejected_longer_and_longer",
        "policy/test_breaker.py::test_long_health_is_rewarded",
    ),
    "U43": absent(
        "the upstream's metrics are slow or renamed",
        "no metrics of upstreams are read: load is our own count of leases",
    ),
    "U44": held(
        "slow, but not failing",
        "relay/test_faults_upstream.py::test_a_slow_member_gets_little",
        "policy/test_picker.py::test_the_less_loaded_takes_the_request",
    ),
    "U45": held(
        "the upstream's clock is wrong",
        "relay/test_faults_upstream.py::test_an_upstreams_wrong_clock_does_no_harm",
        "protocol/test_durations.py::test_any_header_value_is_harmless",
    ),
}

CLIENT = {
    "C1": held(
        "leaves while it waits for its turn",
        "relay/test_limits.py::test_what_was_never_due_costs_the_upstream_nothing",
        "relay/test_clients.py::test_a_client_that_leaves_while_we_connect",
    ),
    "C2": held(
        "leaves before the first token",
        "relay/test_clients.py::test_a_client_that_leaves_ends_its_exchange",
        "relay/test_clients.py::test_a_client_that_leaves_while_held_open_by_heartbeats",
        "relay/test_members.py::test_a_client_that_leaves_decides_nothing_about_a_probation",
    ),
    "C3": held(
        "leaves in mid-stream",
        "relay/test_clients.py::test_a_client_that_leaves_ends_its_exchange",
        "relay/test_limits.py::test_a_client_that_leaves_is_charged_once",
    ),
    "C4": held(
        "leaves while its answer ends",
        "relay/test_faults_client.py::test_who_leaves_as_the_answer_ends_is_settled_once",
    ),
    "C5": held(
        "never reads",
        "relay/test_clients.py::test_a_client_that_never_reads_stops_the_upstream",
        "relay/test_clients.py::test_a_client_that_never_reads_a_whole_answer_is_ended",
    ),
    "C6": held(
        "reads slowly",
        "relay/test_clients.py::test_a_slow_reader_gets_everything",
        "relay/test_clients.py::test_a_paused_client_is_not_a_silent_upstream",
    ),
    "C7": held(
        "drips its head",
        "relay/test_clients.py::test_a_slow_head_is_ended",
        "web/test_data.py::test_a_head_that_never_ends_is_not_waited_for",
        "relay/test_crowd.py::test_half_heads_take_nobodys_room",
        "relay/test_crowd.py::test_an_address_has_its_bound_on_the_wire",
        "relay/test_listener_kinds.py::test_a_handshake_has_its_time",
        "relay/test_listener_kinds.py::test_handshakes_make_room",
    ),
    "C8": held("stops in its body", "relay/test_clients.py::test_a_body_that_stalls_is_ended"),
    "C9": held(
        "sends a body without bound",
        "relay/test_requests.py::test_too_large_a_body_is_refused_at_once",
        "relay/test_requests.py::test_a_refused_body_is_not_read_for_ever",
    ),
    "C10": held(
        "sends what is no JSON object",
        "relay/test_requests.py::test_bodies_that_cannot_be_read_are_refused",
        "protocol/test_splice.py::test_garbage_raises_nothing_but_a_refusal",
    ),
    "C11": held(
        "sends parameters of wrong type or size",
        "relay/test_requests.py::test_bodies_that_cannot_be_read_are_refused",
        "relay/test_faults_client.py::test_absurd_numbers_reserve_nothing_absurd",
        "policy/test_limits.py::test_absurd_numbers_make_a_bounded_estimate",
    ),
    "C12": held(
        "sends fields that nobody knows",
        "relay/test_bytes.py::test_a_body_arrives_byte_for_byte",
        "relay/test_endpoints.py::test_no_unknown_field_is_lost_on_any_route",
    ),
    "C13": held(
        "no key, an unknown one, two",
        "relay/test_limits.py::test_strangers_are_refused_alike",
        "relay/test_malformed.py::test_malformed_requests_are_refused",
    ),
    "C14": held(
        "hammers though it is over its limit",
        "relay/test_faults_client.py::test_a_key_that_hammers_is_refused_and_hurts_nobody",
        "relay/test_limits.py::test_requests_per_minute",
        "protocol/test_durations.py::test_clients_are_told_when_to_come_back",
    ),
    "C15": held(
        "sends an idempotency key again", "relay/test_faults_client.py::test_an_idempotency_key_passes_each_time"
    ),
    "C16": held(
        "a storm of retries",
        "relay/test_faults_client.py::test_a_storm_of_retries_is_not_multiplied",
        "relay/test_members.py::test_retries_are_a_small_share_of_the_traffic",
    ),
    "C17": held(
        "HTTP/1.0, `Connection: close`",
        "relay/test_clients.py::test_http_1_0_gets_no_chunks",
        "relay/test_clients.py::test_connection_close_is_obeyed",
    ),
    "C18": held(
        "pipelines",
        "relay/test_clients.py::test_pipelined_requests_are_answered_in_order",
        "relay/test_clients.py::test_a_request_behind_a_stream_waits_for_its_end",
        "relay/test_beyond.py::test_who_pipelines_and_leaves_is_served_once",
        "relay/test_beyond.py::test_who_pipelines_behind_a_stream_and_breaks_off",
    ),
    "C19": held(
        "`Expect: 100-continue`",
        "relay/test_requests.py::test_expect_100_continue_is_answered",
        "relay/test_requests.py::test_no_leave_to_send_what_would_be_refused",
    ),
    "C20": held("half closes", "relay/test_clients.py::test_a_half_closed_client_is_gone"),
    "C21": held(
        "streams through what buffers",
        "relay/test_bytes.py::test_stream_headers_tell_proxies_not_to_buffer",
        "relay/test_streams.py::test_a_broken_stream_shows_without_chunks_too",
    ),
    "C22": held(
        "another method",
        "relay/test_requests.py::test_what_is_not_served_says_so",
        "relay/test_malformed.py::test_other_methods_are_refused",
        "relay/test_hostile.py::test_an_answer_to_head_has_no_body",
    ),
    "C23": held(
        "thousands of idle connections",
        "relay/test_clients.py::test_idle_connections_are_closed",
        "relay/test_faults_client.py::test_connections_have_a_bound",
        "relay/test_faults_client.py::test_where_nobody_is_idle_the_newcomer_waits_outside",
    ),
}

REFUSED = "relay/test_malformed.py::test_malformed_requests_are_refused"

INPUT = {
    "M1": held("a length and chunks", REFUSED),
    "M2": held("chunks and a length", REFUSED),
    "M3": held("two lengths", REFUSED),
    "M4": held("a length that is no number", REFUSED),
    "M5": held("`chunked, chunked`", REFUSED),
    "M6": held("`xchunked`", REFUSED),
    "M7": held("`\\x0bchunked`", REFUSED),
    "M8": held("two lines of transfer coding", REFUSED),
    "M9": held("`gzip, chunked`; chunks on HTTP/1.0", REFUSED),
    "M10": held(
        "any spelling of the framing", "relay/test_malformed.py::test_no_spelling_of_the_framing_smuggles_a_request"
    ),
    "M11": held("broken lines", REFUSED, "relay/test_malformed.py::test_input_is_not_echoed"),
    "M12": held("bytes above 0x7f in headers", "relay/test_malformed.py::test_high_bytes_in_headers_do_no_harm"),
    "M13": held(
        "no host, two, or one that is none",
        REFUSED,
        "protocol/test_http.py::test_a_head_that_reads_two_ways_is_refused",
    ),
    "M14": held(
        "targets that could lead elsewhere",
        "relay/test_malformed.py::test_only_exact_paths_are_served",
        "relay/test_hostile.py::test_no_path_leads_out_of_its_family",
        "protocol/test_http.py::test_any_target_is_split_or_refused",
    ),
    "M15": held(
        "`Connection` names headers that are ours",
        "relay/test_malformed.py::test_naming_our_headers_as_hop_by_hop_strips_nothing",
        "protocol/test_http.py::test_names_listed_in_connection_are_dropped",
    ),
    "M16": held(
        "forwarded addresses, ids of its own, control headers",
        "relay/test_bytes.py::test_request_headers_follow_the_policy",
        "relay/test_faults_input.py::test_a_clients_id_is_neither_ours_nor_a_line_of_the_log",
        "protocol/test_http.py::test_the_clients_request_id_is_visible_ascii",
    ),
    "M17": held(
        "an upgrade with a body",
        "relay/test_malformed.py::test_upgrades_are_ignored",
        "relay/test_malformed.py::test_an_upgrade_does_not_make_a_request_of_a_body",
    ),
    "M18": held("what is not the HTTP we speak", REFUSED, "relay/test_malformed.py::test_other_methods_are_refused"),
    "M19": held(
        "odd chunks and trailers", REFUSED, "relay/test_faults_input.py::test_nothing_beside_the_chunks_counts"
    ),
    "M20": held(
        "a compressed body, a bomb",
        "relay/test_malformed.py::test_coded_bodies_are_refused",
        "relay/test_hostile.py::test_decoded_bodies_count_against_the_bound",
        "protocol/test_coding.py::test_a_request_has_a_bound_when_it_is_decoded",
    ),
    "M21": held("too many headers, too long ones", REFUSED),
    "M22": held(
        "a model's name that is a path, a template, a line",
        "relay/test_malformed.py::test_odd_model_names_are_unknown_models",
        "telemetry/test_metrics.py::test_names_from_the_wire_never_become_labels",
    ),
    "M23": held("addresses in the body", "relay/test_faults_input.py::test_what_a_body_refers_to_is_not_fetched"),
    "M24": held(
        "names that break logs and metrics",
        "telemetry/test_access_log.py::test_no_text_breaks_a_line",
        "relay/test_faults_input.py::test_no_name_makes_a_line_of_the_log",
        "telemetry/test_metrics.py::test_a_hostile_name_cannot_break_the_exposition",
    ),
    "M25": held(
        "an upstream's header that splits the answer",
        "relay/test_faults_input.py::test_an_upstreams_header_cannot_split_an_answer",
        "relay/test_faults_input.py::test_a_megabyte_of_header_is_no_head",
        "protocol/test_http.py::test_a_broken_line_cannot_split_a_head",
    ),
    "M26": held(
        "guessing keys",
        "relay/test_limits.py::test_strangers_are_refused_alike",
        "policy/test_keys.py::test_a_disabled_key_is_unknown",
    ),
    "M27": held(
        "admin pages at the data port",
        "relay/test_malformed.py::test_only_exact_paths_are_served",
        "config/test_listener_checks.py::test_listeners_must_differ",
    ),
}

CONFIG = {
    "G1": held(
        "a syntax error at a reload",
        "relay/test_reload.py::test_an_invalid_file_changes_nothing",
        "test_cli.py::test_sighup_with_a_faulty_file_changes_nothing",
        "telemetry/test_metrics.py::test_a_rejected_reload_shows_until_one_is_accepted",
    ),
    "G2": held(
        "a syntax error at the start",
        "test_cli.py::test_a_faulty_file_is_told_before_anything_is_bound",
        "test_cli.py::test_a_file_that_cannot_be_read_is_told",
    ),
    "G3": held(
        "a name given twice",
        "config/test_yaml_nodes.py::test_flaws_leave_the_rest_readable",
        "test_cli.py::test_every_fault_is_told_with_its_place",
    ),
    "G4": held("an unknown field", "config/test_convert.py::test_a_wrong_value_is_told_where_it_stands"),
    "G5": held(
        "a file that would explode, or run code",
        "config/test_yaml_nodes.py::test_a_billion_laughs_end_early",
        "config/test_yaml_nodes.py::test_what_is_not_read_here_is_refused_with_its_place",
        "config/test_sources.py::test_reading_is_bounded",
    ),
    "G6": held(
        "absurd weights and durations",
        "config/test_convert.py::test_a_wrong_member_is_told",
        "config/test_values.py::test_what_is_no_duration_is_refused",
        "config/test_values.py::test_a_space_in_a_duration_is_explained",
        "relay/test_reload.py::test_a_drained_member_takes_nothing_new",
    ),
    "G7": held(
        "a secret that is not there",
        "config/test_secrets.py::test_a_secret_that_cannot_be_used_is_told_by_its_reference",
    ),
    "G8": held("fallbacks in a circle", "config/test_checks.py::test_fallbacks_end"),
    "G9": held(
        "an upstream that is the router itself",
        "config/test_upstream_checks.py::test_a_base_url_that_cannot_be_used_is_told",
        "config/test_addresses.py::test_an_upstream_that_is_the_router_is_known",
    ),
    "G10": held(
        "a file half written, or briefly away",
        "config/test_watcher.py::test_a_change_is_reported_once_it_is_steady",
        "config/test_watcher.py::test_brief_absence_is_no_change",
    ),
    "G11": held("a ConfigMap is swapped", "config/test_watcher.py::test_a_config_map_swap_is_seen"),
    "G12": held(
        "reloads under load",
        "relay/test_load.py::test_reloads_under_load_cost_nobody_an_error",
        "relay/test_pressure.py::test_a_hundred_reloads_under_load_fail_nobody",
        "relay/test_reload.py::test_no_request_is_lost_while_reloading",
        "relay/test_faults_process.py::test_old_configurations_are_let_go",
        "test_app.py::test_reloads_at_once_come_one_after_the_other",
    ),
    "G13": held(
        "an upstream goes while it streams",
        "relay/test_reload.py::test_exchanges_in_flight_keep_their_configuration",
        "relay/test_beyond.py::test_a_change_under_fifty_streams_harms_none",
        "telemetry/test_metrics.py::test_a_removed_upstream_disappears_and_the_rest_goes_on",
    ),
    "G14": held(
        "a limit changes",
        "policy/test_limits.py::test_a_lowered_limit_applies_at_once_and_in_proportion",
        "relay/test_reload.py::test_used_up_limits_stay_used_up",
    ),
    "G15": held(
        "what was learnt about upstreams",
        "relay/test_reload.py::test_cooldowns_survive",
        "policy/test_catalogue.py::test_a_reload_keeps_what_is_counted_and_learnt",
        "policy/test_catalogue.py::test_a_changed_identity_starts_anew",
    ),
    "G16": held("another address to listen on", "test_listeners.py::test_listeners_come_and_go"),
    "G17": held(
        "a key is deleted",
        "relay/test_reload.py::test_a_deleted_key_is_refused_and_its_streams_finish",
        "relay/test_beyond.py::test_a_kept_connection_does_not_outlive_its_key",
    ),
    "G18": held(
        "a secret is rotated",
        "test_app.py::test_a_rotated_secret_is_noticed",
        "config/test_watcher.py::test_secret_files_are_watched",
    ),
}

PROCESS = {
    "O1": held(
        "SIGTERM",
        "test_cli.py::test_sigterm_lets_streams_finish",
        "relay/test_pressure.py::test_two_hundred_streams_finish_after_sigterm",
        "relay/test_stop.py::test_streams_finish_while_draining",
        "relay/test_stop.py::test_when_time_is_up_streams_are_told",
        "test_app.py::test_draining_is_not_ready_and_still_serves",
    ),
    "O2": held(
        "a second signal",
        "test_cli.py::test_a_second_signal_hurries",
        "relay/test_pressure.py::test_a_storm_of_signals_ends_in_order",
    ),
    "O3": held(
        "SIGKILL",
        "relay/test_faults_process.py::test_after_a_kill_the_next_start_is_clean",
        "relay/test_pressure.py::test_a_kill_under_load_costs_what_was_under_way",
    ),
    "O4": held(
        "SIGHUP",
        "test_cli.py::test_run_serves_reloads_and_stops",
        "test_cli.py::test_sighup_while_starting_does_no_harm",
        "relay/test_faults_process.py::test_systemd_is_told_how_we_do",
    ),
    "O5": held(
        "replicas are restarted one after the other",
        "relay/test_faults_process.py::test_a_rolling_restart_costs_nobody_an_error",
    ),
    "O6": absent("Redis fails", "no state is kept outside of the process yet"),
    "O7": absent("Redis is emptied", "no state is kept outside of the process yet"),
    "O8": held(
        "no file descriptor is left",
        "relay/test_faults_process.py::test_without_descriptors_what_runs_goes_on",
        "relay/test_pressure.py::test_streams_that_need_more_descriptors_than_there_are",
        "relay/test_pressure.py::test_a_lack_of_descriptors_blames_no_upstream",
        "test_process.py::test_as_many_files_may_be_open_as_the_system_allows",
    ),
    "O9": held(
        "the disk is full",
        "relay/test_faults_process.py::test_a_full_disk_costs_lines_of_the_log_only",
        "relay/test_pressure.py::test_a_full_disk_costs_the_bodies_that_need_it",
        "relay/test_hostile.py::test_a_failing_disk_ends_one_request",
        "telemetry/test_access_log.py::test_a_failing_write_is_counted_and_survived",
    ),
    "O10": held(
        "nobody reads standard output",
        "telemetry/test_access_log.py::test_a_stalled_reader_costs_lines_and_nothing_else",
        "relay/test_faults_process.py::test_a_log_that_nobody_reads_holds_nobody_up",
        "relay/test_pressure.py::test_a_log_that_nobody_reads_is_counted_as_lost",
    ),
    "O11": absent("the log is rotated", "the log goes to standard output alone: no file of ours can be rotated"),
    "O12": held(
        "the wall clock jumps",
        "relay/test_faults_process.py::test_a_jump_of_the_wall_clock_changes_no_decision",
        "telemetry/test_access_log.py::test_time_may_go_back_between_lines",
        "test_architecture.py::test_decisions_and_formats_are_pure",
    ),
    "O13": held(
        "the event loop is blocked",
        "relay/test_faults_process.py::test_a_blocked_loop_blames_no_upstream",
        "relay/test_faults_process.py::test_a_blocked_loop_shows",
        "telemetry/test_metrics.py::test_lag_is_observed",
        "relay/test_faults_process.py::test_what_blocks_the_loop_is_told",
    ),
    "O14": held(
        "hardly any processor time",
        "relay/test_faults_process.py::test_a_blocked_loop_blames_no_upstream",
        "relay/test_pressure.py::test_hardly_any_processor_time_blames_no_upstream",
    ),
    "O15": held(
        "the process is suspended", "relay/test_faults_process.py::test_a_suspended_process_blames_no_upstream"
    ),
    "O16": held(
        "ten thousand models and keys",
        "policy/test_patterns.py::test_the_memo_changes_no_answer_and_stays_small",
        "policy/test_keys.py::test_a_key_is_found_by_its_token",
        "telemetry/test_metrics.py::test_the_series_limit_holds_and_shows",
    ),
    "O17": held(
        "scrapes of many series",
        "web/test_admin.py::test_metrics_are_rendered_off_the_loop",
        "telemetry/test_metrics.py::test_a_scrape_while_counting_is_whole",
    ),
    "O18": absent("several workers", "one process serves: there are no workers yet"),
    "O19": held(
        "our own code fails",
        "relay/test_requests.py::test_a_bug_of_ours_in_choosing_costs_one_request",
        "relay/test_requests.py::test_a_bug_of_ours_in_reading_an_answer_costs_one_request",
        "web/test_data.py::test_a_fault_of_ours_is_answered_and_not_shown",
        "relay/test_faults_process.py::test_background_work_goes_on_after_a_bug",
    ),
    "O20": held(
        "bodies that fill the memory",
        "relay/test_requests.py::test_all_bodies_together_have_a_bound",
        "relay/test_pressure.py::test_bodies_that_would_fill_the_memory_are_refused",
    ),
    "O21": held(
        "broken IPv6",
        "relay/test_members.py::test_an_address_that_swallows_connections_does_not_hide_the_next",
        "relay/test_faults_process.py::test_an_address_that_refuses_does_not_hide_the_next",
    ),
    "O22": held(
        "leap seconds, summer time",
        "relay/test_faults_process.py::test_a_jump_of_the_wall_clock_changes_no_decision",
    ),
    "O23": held("variables for proxies", "relay/test_faults_process.py::test_variables_for_proxies_are_not_looked_at"),
    "O24": held(
        "nothing can be written, nobody is at home",
        "relay/test_faults_process.py::test_it_starts_where_nothing_can_be_written",
    ),
}

CATALOGUE: dict[str, Row] = UPSTREAM | CLIENT | INPUT | CONFIG | PROCESS
