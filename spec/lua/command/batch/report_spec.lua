local figures = require "parley.command.batch.figures"
local files = require "parley.base.files"
local helper = require "spec.helper"
local json = require("parley.core").json
local plots = require "parley.command.batch.plots"
local report = require "parley.command.batch.report"

local function result(id, fields)
  local whole = { id = id, line = 1, verdict = fields.error and "failed" or "success", attempts = 1,
    started_at = "2026-11-29T06:00:00.000Z", duration_ms = 1000, turn_ms = { 400, 600 },
    usage = { input_tokens = 1, cache_read_input_tokens = 10, output_tokens = 5 }, messages = {} }
  for name, value in pairs(fields) do whole[name] = value end
  return whole
end

local function found_in(...)
  local list, index = { ... }, 0
  return figures.of(function()
    index = index + 1
    return list[index]
  end)
end

local function count(text, piece) return select(2, text:gsub(piece:gsub("%p", "%%%0"), "")) end

describe("the figures of a batch", function()
  it("sum tokens and cost, and count what failed by its code", function()
    local found = found_in(result("a", { cost_usd = 0.5 }), result("b", { error = { code = "error_api" } }),
      result("c", { error = { code = "DialogError" } }), result("d", { error = { code = "error_api" },
        result = { cost_usd = 0.25 } }))
    assert.same({ 44, 20, 0.75, 3 }, { found.sent, found.received, found.cost_usd, #found.failed })
    assert.same({ { code = "error_api", count = 2 }, { code = "DialogError", count = 1 } }, found.codes)
    assert.same({ 400, 400, 400, 400, 600, 600, 600, 600 }, found:turns())
    assert.same({ 0.25, 0.5 }, found:each "cost_usd")
  end)

  it("know no cost where no result tells one", function() assert.is_nil(found_in(result("a", {})).cost_usd) end)

  it("take the last of several results about one conversation, in its place", function()
    local found = found_in(result("a", { error = { code = "x" } }), result("b", {}), result("a", {}),
      result(json.null, { line = 7, error = { code = "ValueError" } }),
      result(json.null, { line = 7, error = { code = "ValueError" } }))
    assert.same({ "b", "a", 7 }, { found.entries[1].id, found.entries[2].id, found.entries[3].line })
    assert.equal(1, #found.failed)
  end)

  it("live with results in which much is missing, or of another kind", function()
    local found = found_in({ id = 7, line = 1, verdict = "failed", error = json.null, usage = 7, turn_ms = "x",
      duration_ms = 0 / 0, messages = { 7, { role = "user", content = { 7 } } }, result = json.null, cost_usd = "1" })
    assert.equal("unknown", found.failed[1].error.code)
    assert.matches("</html>\n$", report.render(found, "x"))
    for name, value in pairs { attempts = 1.5, duration_ms = 1e308, turn_ms = { 1e308 }, cost_usd = -1e308 } do
      assert.matches("</html>\n$", report.render(found_in(result("a", { [name] = value })), "x"))
    end
  end)
end)

describe("a plot", function()
  it("has a bar for each place where there is something", function()
    assert.equal(2, count(plots.histogram({ 1, 1, 1, 100 }, "x"), 'class="bar"'))
    assert.equal(1, count(plots.histogram({ 0 }, "x"), 'class="bar"'))
  end)

  it("keeps one that failed among thousands to be seen", function()
    local has_failed = {}
    for i = 1, 5000 do has_failed[i] = i == 2500 end
    local strip = plots.strip(has_failed, "x")
    assert.same({ 300, 1 }, { count(strip, 'class="good"'), count(strip, 'class="bad"') })
    assert.matches('class="bad" x="[%d.]+" y="19.00" width="1.00" height="3.00"', strip)
  end)

  it("knows the middle and the ends of a list", function()
    assert.same({ 1, 2, 4 }, { plots.quantile({ 1, 2, 3, 4 }, 0), plots.quantile({ 1, 2, 3, 4 }, 0.5),
      plots.quantile({ 1, 2, 3, 4 }, 1) })
  end)
end)

describe("the report of a batch", function()
  after_each(helper.remove_folders)

  local HOSTILE = "</pre><script>alert('1')</script><img src=http://x onerror=\"y\"> & \27[31m \xE2\x80\xAE"

  it("escapes whatever a result holds", function()
    local page = report.render(found_in(result(HOSTILE, { started_at = HOSTILE, messages = { { role = "user",
      content = HOSTILE } }, error = { code = HOSTILE, message = HOSTILE, reason = HOSTILE, screen = HOSTILE,
      turn = HOSTILE } })), HOSTILE)
    assert.is_nil(page:find("<script", 1, true))
    assert.is_nil(page:find("<img", 1, true))
    assert.is_nil(page:find "[\0-\9\11-\31]")
    -- The title twice, the time, the id, and what there is of the failure.
    assert.is_true(count(page, "&lt;/pre&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;") >= 10)
    assert.is_true(count(page, "onerror=&quot;y&quot;&gt; &amp; ") >= 10)
  end)

  it("replaces bytes that are no UTF-8", function()
    assert.equal("a\u{FFFD}b", report.escape "a\xFFb")
    assert.equal("ä", report.escape "ä")
  end)

  it("loads nothing, and has no scripts", function()
    local page = report.render(found_in(result("a", { error = { code = "x", screen = "> x" } })), "x")
    assert.matches([[content="default-src 'none'; style-src 'unsafe-inline'"]], page, 1, true)
    for _, word in ipairs { "<script", "<link", " src=", " href=", "url(", "@import", "http:", "https:" } do
      assert.is_nil(page:find(word, 1, true), word)
    end
  end)

  it("tells of verdicts, times, tokens, cost, and of failures with their screens", function()
    local page = report.render(found_in(result("good", { cost_usd = 1.5, duration_ms = 83000 }),
      result("bad", { cost_usd = 0.0625, attempts = 2, messages = { { role = "user", content = "the last words" } },
        error = { code = "DialogError", message = "the program asks", turn = 1, screen = "Do you trust\n  1. Yes" } })),
      "answers.jsonl")
    for _, text in ipairs { "<b>2</b><span class=dim>conversations", "<b>1</b><span class=dim>failed",
      "<b>22</b><span class=dim>tokens in", "<b>$1.56</b><span class=dim>cost", "at most 1 min 23 s", "2 attempts",
      "<b>DialogError</b> the program asks", "<pre>Do you trust\n  1. Yes</pre>", "the last words",
      "<td>success<td class=number title='time'>1 min 23 s", "<td class=number title='attempts'>2<",
      "<span>0</span><span>1 min 23 s</span>", "<p class=dim>begun 2026-11-29 06:00:00 UTC</p>" } do
      assert.is_truthy(page:find(text, 1, true), text)
    end
    assert.equal(6 + 1, count(page, "<svg ")) -- verdicts, two times, two of tokens, cost; the one code
  end)

  it("says so when there is no result", function()
    assert.matches("There is no result", report.render(found_in(), "x"))
  end)

  it("shows no more failures than a page bears, and counts all", function()
    local results = {}
    for i = 1, 250 do results[i] = result("c" .. i, { error = { code = "x", screen = "x" } }) end
    local page = report.render(found_in(table.unpack(results)), "x")
    assert.equal(200, count(page, "<details>"))
    assert.matches("and 50 more", page, 1, true)
  end)

  describe("of a file", function()
    local function page_of(text) return report.of_file(helper.write(helper.temporary_folder() .. "/o.jsonl", text)) end
    local LINE = '{"id":"a","line":1,"verdict":"success"}\n'

    it("passes over a last line that is half written", function()
      assert.matches("<b>1</b><span class=dim>conversations<", page_of(LINE .. '{"id":"b","li'))
    end)

    it("refuses what is no output of a batch, with the line", function()
      for _, text in ipairs { LINE .. "{}\n", LINE .. "\nx" } do
        local err = helper.failure_of("ValueError", page_of, text)
        assert.matches("o.jsonl' is no output of a batch: its line %d is no result$", err.message)
      end
    end)
  end)

  describe("goes to a file", function()
    it("that is not the batch's, in a folder that there is", function()
      local folder = helper.temporary_folder()
      local path = helper.write(folder .. "/o.jsonl", "x")
      report.check_target(folder .. "/new.html", { path })
      for target, problem in pairs { [path] = "which holds the batch itself", [folder] = "it is a folder",
        [folder .. "/none/x.html"] = "there is no folder '" .. folder .. "/none'" } do
        local err = helper.failure_of("ValueError", report.check_target, target, { path })
        assert.matches("the report cannot go to '" .. target .. "'", err.message, 1, true)
        assert.matches(problem, err.message, 1, true)
      end
      assert.equal("x", files.read(path))
      assert.same({ "o.jsonl" }, helper.names_in(folder))
    end)

    it("that can be written", function()
      local err = helper.error_of(report.check_target, "/sys/parley-spec.html", {})
      assert.matches("cannot write '/sys/parley-spec.html'", err.message, 1, true)
    end)
  end)
end)
