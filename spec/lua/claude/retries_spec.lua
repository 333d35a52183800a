local retries = require "parley.claude.retries"

describe("retries.on_screen", function()
  it("reads attempt, wait and cause", function()
    assert.same({ attempt = 2, max_attempts = 3, wait_ms = 4000, message = "529 overloaded" },
      retries.on_screen { "✻ 529 overloaded · retrying in 4s · attempt 2/3", "" })
    assert.same({ attempt = 1, max_attempts = 1, wait_ms = 0, message = "API error" },
      retries.on_screen { "· API error · retrying… · attempt 1/1" })
    assert.equal(7, retries.on_screen({ "✽ x · Retrying in 1s · attempt 7/10" }).attempt)
  end)

  it("does not believe a message that looks like one", function()
    assert.is_nil(retries.on_screen { "❯ ✻ API error · retrying in 1s · attempt 2/3",
      "● x · retrying in 1s · attempt 2/3", "  y · retrying in 1s · attempt 2/3", "Will retry on next startup" })
    assert.is_nil(retries.on_screen { "● Bash(make)", "  ⎿  Retrying in 9s · attempt 6/10" })
    assert.equal(6, retries.on_screen({ "✻ Thinking…", "", "  ⎿  Retrying in 9s · attempt 6/10" }).attempt)
  end)
end)

describe("retries.in_record", function()
  it("reads what 2.1.110 writes", function()
    assert.same({ attempt = 2, max_attempts = 10, wait_ms = 1234, message = "API error (529)" },
      retries.in_record { type = "system", subtype = "api_error", retryAttempt = 2, maxRetries = 10,
        retryInMs = 1234.5, error = { status = 529 } })
    assert.same({ attempt = 1, max_attempts = 1, wait_ms = 0, message = "API error" },
      retries.in_record { subtype = "api_error", retryAttempt = 1 })
  end)

  it("takes no other record for one", function()
    assert.is_nil(retries.in_record { subtype = "informational", retryAttempt = 1 })
    assert.is_nil(retries.in_record { subtype = "api_error", retryAttempt = "1" })
  end)
end)
