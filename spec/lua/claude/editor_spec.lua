-- The editor door, with shells in the place of the program and of the user's editors.
local uv = require "luv"
local editor = require "parley.claude.editor"
local files = require "parley.base.files"
local helper = require "spec.helper"

describe("editor", function()
  local folder, prompt, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
    prompt = folder .. "/claude-prompt-1.md"
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  ---A user's editor that tells its name, its arguments and the variables that it finds.
  local function users_editor(name)
    local tell = 'echo "%s: $# $1 VISUAL=${VISUAL-none} EDITOR=${EDITOR-none}"'
    helper.write_script(folder .. "/" .. name, tell:format(name))
    return folder .. "/" .. name
  end

  ---Runs a script as the program, served by an editor: it gets to know `$VISUAL`, the prompt's path is `$1`.
  ---@return string output
  ---@return integer changes  how often the editor has told of one
  local function run(script, environment, text)
    local changes = 0
    local door = assert(editor.new(environment, function() changes = changes + 1 end))
    local list = { "PATH=" .. folder .. ":" .. os.getenv "PATH", "VISUAL=" .. door.visual }
    if environment.EDITOR then table.insert(list, "EDITOR=" .. environment.EDITOR) end
    local program <close> = helper.start({ "/bin/sh", "-c", "read _; " .. script, "sh", prompt },
      { env = list, input = false })
    door:serve(program.pid)
    if text then door:offer(text) end
    program:send "\n"
    program:wait()
    assert.equal("", program.errors)
    local before = text and door:taken()
    if before then helper.eventually(function() return changes > 0 end) end
    door:close()
    assert.is_nil(uv.fs_stat((door.visual:match "%s(.*)/editor$")))
    return program.output, before, changes
  end

  it("gives the program what is offered, and tells what its composer held", helper.task(function()
    helper.write(prompt, "left\nover")
    local text = "tab\t, CRLF\r\n, 'quotes' \"$HOME\" `x` é 😀\\ "
    local output, before = run('$VISUAL "$1"; cat "$1"', {}, text)
    assert.equal(text, output)
    assert.equal("left\nover", before)
  end))

  it("gives it once, and leaves the file as it is when the key was pressed again", helper.task(function()
    helper.write(prompt, "")
    local output = run('$VISUAL "$1"; echo " and more" >> "$1"; $VISUAL "$1"; cat "$1"', {}, "one")
    assert.equal("one and more\n", output)
    assert.equal("mine", (run('printf mine > "$1"; $VISUAL "$1"; cat "$1"', {})))
  end))

  it("keeps what is offered from everybody else, and is the user's editor for them", helper.task(function()
    local own = users_editor "own"
    for _, call in ipairs { '(:; $VISUAL "$1"; :)', [[sh -c "$VISUAL "'"$@"; :' git "$1"]] } do
      local output, before = run(call, { VISUAL = own, EDITOR = "other" }, "secret")
      assert.equal(("own: 1 %s VISUAL=%s EDITOR=other\n"):format(prompt, own), output)
      assert.is_nil(before)
    end
    local output = run('$VISUAL COMMIT_EDITMSG', { VISUAL = own }, "secret")
    assert.equal(("own: 1 COMMIT_EDITMSG VISUAL=%s EDITOR=none\n"):format(own), output)
  end))

  it("passes on to the user's editor with its arguments and quotes", helper.task(function()
    helper.write_script(folder .. "/it's mine", 'echo "$@"')
    local visual = ('"%s/it\'s mine" --wait 100%%'):format(folder)
    assert.equal("--wait 100% x.txt\n", (run("$VISUAL x.txt", { VISUAL = visual })))
  end))

  it("leaves EDITOR, where the user has no VISUAL", helper.task(function()
    local own = users_editor "own"
    assert.equal(("own: 1 a b VISUAL=none EDITOR=%s\n"):format(own), (run('$VISUAL "a b"', { EDITOR = own })))
    assert.equal(("own: 1 a VISUAL=none EDITOR=%s\n"):format(own), (run("$VISUAL a", { VISUAL = " ", EDITOR = own })))
  end))

  it("is the system's editor, where the user has none", helper.task(function()
    users_editor "editor"
    assert.equal("editor: 1 a VISUAL=none EDITOR=none\n", (run("$VISUAL a", {})))
  end))

  it("fails, and changes nothing, when what is offered cannot be read", helper.task(function()
    helper.write(prompt, "mine")
    local output, before = run('before=$(dirname ${VISUAL#* })/before; mkdir -p "$before/claude-prompt-1.md"; '
      .. '$VISUAL "$1" 2>&-; echo "$? $(cat "$1")"', {}, "text")
    assert.matches("^[1-9]%d* mine\n$", output)
    assert.is_nil(before)
  end))

  it("stands in a private folder without a space on its path", helper.task(function()
    local spaced = folder .. "/with space"
    files.make_folder(spaced)
    local old = os.getenv "TMPDIR"
    uv.os_setenv("TMPDIR", spaced)
    local door = editor.new({}, function() end)
    if old then uv.os_setenv("TMPDIR", old) else uv.os_unsetenv "TMPDIR" end
    local own = assert(door).visual:match "^/bin/sh ([%w/._-]+)/editor$"
    assert.is_string(own)
    door:offer "x"
    assert.equal("700", ("%o"):format(uv.fs_stat(own).mode & 511))
    assert.equal("600", ("%o"):format(uv.fs_stat(own .. "/message").mode & 511))
    door:withdraw()
    assert.same({ "editor" }, helper.names_in(own))
    door:close()
    door:close()
    assert.is_nil(uv.fs_stat(own))
  end))
end)
