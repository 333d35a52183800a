--- The person at a terminal, with small programs of the shell's.
local helper = require "spec.helper"
local terminal = require "parley.testing.terminal"

describe("a person at a terminal", function()
  local check_leaks
  before_each(function() check_leaks = helper.leaks() end)
  after_each(function()
    check_leaks()
    helper.remove_folders()
  end)

  --- Opens a terminal on a piece of shell.
  local function open(body, options)
    local all = { argv = { "/bin/sh", "-c", body } }
    for name, value in pairs(options or {}) do all[name] = value end
    return terminal.open(all)
  end

  it("sees what is printed, types, and sees the end", helper.task(function()
    local person <close> = open 'printf "name? "; read name; echo "hello $name"; exit 3'
    person:wait_for "name?"
    person:write "Ada\r"
    assert.same({ exit_code = 3 }, person:exit())
    person:wait_for(function() return person.is_ended end)
    assert.is_true(person:shows "hello Ada")
    assert.equal("name? Ada\r\nhello Ada\r\n", person.output)
  end))

  it("starts a program in a folder and an environment, or in this process's", helper.task(function()
    local folder = helper.temporary_folder()
    local person <close> = open("pwd; echo $PLACE",
      { cwd = folder, environment = { PLACE = "elsewhere" }, columns = 200 })
    person:wait_for(folder .. "\nelsewhere")
    local other <close> = open("pwd; echo $PATH", { columns = 400 })
    other:wait_for(require("luv").cwd() .. "\n" .. os.getenv "PATH")
  end))

  it("makes the window larger and smaller", helper.task(function()
    local person <close> = open("trap 'stty size' WINCH; stty size; while :; do read line; done",
      { rows = 24, columns = 80 })
    person:wait_for "24 80"
    person:resize(30, 100)
    person:write "\r" -- a signal just before the shell reads is heard behind what it reads
    person:wait_for "30 100"
    local rows, columns = person.screen:size()
    assert.same({ 30, 100 }, { rows, columns })
  end))

  local ASKS = [[stty raw -echo; printf '\033[c'; dd bs=1 count=1 2> /dev/null | od -An -c; stty sane
    echo done; read x]]

  it("has a terminal that answers when the program asks what it is", helper.task(function()
    local person <close> = open(ASKS)
    person:wait_for "033"
    person:wait_for "done"
  end))

  it("has one that answers nothing, when it shall be silent", helper.task(function()
    local person <close> = open(ASKS, { is_silent = true })
    person:wait_for(function() return person.output:find("\27[c", 1, true) end)
    person:write "x"
    person:wait_for "done"
    assert.matches("^%s*x%s", person.screen:text())
  end))

  it("tells what stood on the screen when something did not come", helper.task(function()
    local person <close> = open "echo something else; read line"
    person:wait_for "something else"
    local ok, err = pcall(person.wait_for, person, "what is hoped for", 20)
    assert.is_false(ok)
    assert.equal("ETIMEDOUT", err.code)
    assert.matches("'what is hoped for' did not come; the screen:\nsomething else", err.message, 1, true)
  end))

  it("kills what still runs when it closes, and minds no second time", helper.task(function()
    local person = open "trap '' HUP TERM; echo up; while :; do sleep 60; done"
    person:wait_for "up"
    local pid = person:pid()
    person:close()
    person:close()
    assert.is_true(helper.is_reaped(pid))
  end))

  it("hangs up without a kill, and reaps when it is closed", helper.task(function()
    local person = open "trap 'exit 7' HUP; echo up; while :; do sleep 60 & wait; done"
    person:wait_for "up"
    person:hang_up()
    assert.same({ exit_code = 7 }, person:exit())
    person:close()
    local other = open "trap '' HUP; echo up; while :; do sleep 60; done"
    other:wait_for "up"
    other:hang_up()
    other:close()
    assert.is_true(helper.is_reaped(other:pid()))
  end))

  it("raises where nobody reads any more what it types", helper.task(function()
    local person = open "exit 0"
    person:wait_for(function() return person.is_ended end)
    assert.matches("cannot write", helper.failure_of("EPIPE", person.write, person, "x").message)
    person:close()
    assert.matches("is closed", helper.failure_of("EPIPE", person.paste, person, "x").message)
  end, 10000))

  it("refuses what means nothing", helper.task(function()
    helper.failure_of("ValueError", terminal.open)
    helper.failure_of("ValueError", terminal.open, {})
    helper.failure_of("ValueError", terminal.open, { argv = {} })
    helper.failure_of("ValueError", terminal.open, { argv = { "/bin/true" }, row = 10 })
  end))

  it("raises when the program is not there", helper.task(function()
    local ok, err = pcall(terminal.open, { argv = { "/nowhere/claude" } })
    assert.is_false(ok)
    assert.matches("ENOENT", tostring(err))
  end))
end)
