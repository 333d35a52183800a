--- What `make conformance`, which writes this file, has found on published versions of `claude`: when it was run, the
--- checks that the version falls short of, and those that broke a promise. spec/conformance/README.md says more.
---@type table<string, {date: string, short?: string, wrong?: string}>
return {
  ["2.1.110"] = { date = "2026-11-29", short = "1 MB" },
  ["2.1.197"] = { date = "2026-11-29" },
  ["2.1.210"] = { date = "2026-11-29" },
  ["2.1.260"] = { date = "2026-11-29" },
  ["2.1.290"] = { date = "2026-11-29" },
  ["2.1.310"] = { date = "2026-11-29" },
  ["2.1.321"] = { date = "2026-11-29" },
  ["2.1.330"] = { date = "2026-11-29" },
  ["2.1.331"] = { date = "2026-11-29" },
  ["2.1.332"] = { date = "2026-11-29" },
}
