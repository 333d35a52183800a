-- What a person sees of a batch.
local batches = require "spec.batches"
local helper = require "spec.helper"
local terminal = require "parley.testing.terminal"
local testing = require "parley.testing"
local tmux = require "spec.tmux"

local argv_of, environment_of, write_input, read_results, wait_for_the_dead, basic = batches.argv_of,
  batches.environment_of, batches.write_input, batches.read_results, batches.wait_for_the_dead, batches.basic

describe("parley batch", function()
  local check_leaks

  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  describe("on a terminal", function()
    local function open(kit, words, columns)
      return terminal.open { argv = argv_of(kit, words), environment = environment_of(kit), cwd = kit.folder,
        rows = 12, columns = columns or 100 }
    end

    local SLOW = { answers = { { on = "slow", text = "well", delay_ms = 1200 } } }

    it("shows a bar, which makes way for messages and is gone at the end", helper.task(function()
      local kit <close> = testing.kit { script = SLOW }
      write_input(kit, { { id = "a", turns = { "x" } }, { id = "b", turns = { "ERR400" } },
        { id = "c", turns = { "slow" } }, { id = "d", turns = { "slow" } } })
      local person <close> = open(kit, basic("--jobs", "2"))
      person:wait_for "[============            ] 2 of 4 done  1 failed  2 running"
      assert.is_truthy(person:shows "left")
      assert.equal(1, person:exit(10000).exit_code)
      person:wait_for "3 succeeded, 1 failed"
      assert.is_truthy(person:shows "line 2 (b) failed: error_api: API Error: 400")
      person:wait_for(function() return not person:shows "2 running" and not person:shows "[=" end)
    end))

    it("keeps the bar on one row when the window becomes narrow", helper.task(function()
      local kit <close> = testing.kit { script = { answers = { { on = "never", hang = true } } } }
      write_input(kit, { { id = "a", turns = { "never" } } })
      local person <close> = open(kit, basic())
      person:wait_for "[                        ] 0 of 1 done  0 failed  1 running"
      person:resize(12, 30)
      person:wait_for(function() return person.screen:text():match "^0 of 1 done  0 failed%s*$" end)
      person:write "\3"
      assert.equal(130, person:exit().exit_code)
      wait_for_the_dead(kit)
    end))

    tmux.it("in tmux draws its bar over itself, through failures, another width and Ctrl-C", function()
      local kit <close> = testing.kit { script = { answers = { { on = "never", hang = true },
        { on = "slow", text = "well", delay_ms = 2500 } } } }
      write_input(kit, { { id = "a", turns = { "x" } }, "no conversation", { id = "c", turns = { "slow" } },
        { id = "d", turns = { "never" } } })
      local person <close> = tmux.open(argv_of(kit, basic("--jobs", "2")), { env = environment_of(kit),
        cwd = kit.folder, folder = kit.folder, columns = 100, rows = 12 })
      local shown = person:expect(
        "%[============            %] 2 of 4 done  1 failed  2 running  [%d.]+/%a+  %d:%d%d left$", true)
      assert.equal(2, select(2, shown:gsub("\n", "")) + 1, shown) -- the failure and the bar
      assert.is_truthy(shown:find("^parley: line 2 failed: ValueError: not JSON"), shown)
      person:resize(30)
      shown = person:expect("\n3 of 4 done  1 failed$", true)
      assert.equal(1, select(2, shown:gsub("of 4 done", "")), shown)
      person:press "C-c"
      shown = person:expect "status 130"
      assert.is_nil(shown:find("of 4 done", 1, true), shown)
      assert.is_truthy(shown:find("parley: 2 succeeded, 1 failed", 1, true), shown)
      assert.equal(3, #read_results(kit))
      wait_for_the_dead(kit)
    end)

    it("is ended by Ctrl-C with a summary and how to go on", helper.task(function()
      local kit <close> = testing.kit { script = { answers = { { on = "never", hang = true } } } }
      write_input(kit, { { id = "a", turns = { "x" } }, { id = "b", turns = { "never" } } })
      local person <close> = open(kit, basic())
      person:wait_for "1 of 2 done"
      person:write "\3"
      assert.equal(130, person:exit().exit_code)
      person:wait_for "1 succeeded, 0 failed"
      person:wait_for "--resume goes on"
      assert.equal(1, #read_results(kit))
      assert.equal(0, #kit:processes())
    end))
  end)
end)
