# Runs the vendor's plugin on Windows. Neither its argument list there nor its exit codes were ever observed: the
# parameters are those that Cloud Backup documents, spelt as on Linux. The renderer puts the variables in front.
function Tell($code, $reason) {
    Write-Output ('{"appsnap-plugin":"1","run":"' + $attempt + '","phase":"done","exit":"' + $code + '","thawed":"","reason":[' + $reason + ']}')
    # The agent would power off or restart the instance.
    if ($code -eq 193 -or $code -eq 194) { exit 1 }
    exit $code
}
$manager = (Get-Command acs-plugin-manager.exe -ErrorAction SilentlyContinue).Source
if (-not $manager) {
    # Where the vendor documents it: in the directory of the agent's version.
    $manager = Get-ChildItem "$env:ProgramData\aliyun\assist\*\acs-plugin-manager.exe" -ErrorAction SilentlyContinue |
        Sort-Object LastWriteTime | Select-Object -Last 1 -ExpandProperty FullName
}
if (-not $manager) { Tell 127 '"plugin.manager_missing"' }
& $manager --exec --plugin app-snapshot-plugin --fetchTimeout 60 --timeout $limit "--params=$params"
Tell $LASTEXITCODE ''
