// Quotegate's starter rules: few, documented (docs/inspection.md), each with a test that it fires and one that it does not.

rule eicar_test_file {
  meta: description = "the EICAR test file"
  strings:
    $head = "X5O!P%@AP[4\\PZX54(P^)7CC)7}$"
    $tail = "EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
  condition: $head and $tail
}

rule php_shell {
  meta: description = "PHP that runs what a request brings"
  strings:
    $php = "<?php"
    $run = /\b(eval|assert|system|passthru|shell_exec|exec|popen)\s{0,5}\(\s{0,5}(base64_decode\s{0,5}\(\s{0,5})?(stripslashes\s{0,5}\(\s{0,5})?\$_(GET|POST|REQUEST|COOKIE)\b/
  condition: $php and $run
}

rule jsp_shell {
  meta: description = "JSP that runs what a request brings"
  strings:
    $run = /Runtime\.getRuntime\(\)\.exec\(\s{0,5}request\.getParameter\(/
  condition: $run
}

rule reverse_shell {
  meta: description = "a one-line reverse shell"
  strings:
    $bash = /\b(ba)?sh -i\s{0,3}(>&|>|&>)\s{0,3}\/dev\/tcp\/[0-9a-z.]{4,100}\/[0-9]{2,5}/
    $nc = /\bnc(at)? (-[a-z]{1,4} )?[0-9.]{7,15} [0-9]{2,5} -e \/bin\/(ba)?sh/
    $python = /socket\.socket\([^\n]{0,80}\);[^\n]{0,120}os\.dup2\([^\n]{0,200}\/bin\/(ba)?sh/
  condition: any of them
}

rule powershell_download_and_run {
  meta: description = "PowerShell that runs what it downloads"
  strings:
    $run = /(IEX|Invoke-Expression)[\s(]{1,6}(\(?New-Object\s{1,3}(System\.)?Net\.WebClient\)?\.DownloadString|\(?(Invoke-WebRequest|iwr|irm)\b)/ nocase
  condition: $run
}

rule credential_dumper {
  meta: description = "a tool that reads passwords from Windows' memory"
  strings:
    $a = "sekurlsa::logonpasswords" ascii wide nocase
    $b = "lsadump::sam" ascii wide nocase
    $c = "gentilkiwi" ascii wide nocase
  condition: 2 of them
}

rule office_macro_starts_a_program {
  meta: description = "an Office macro that starts a program by itself"
  strings:
    $ole = { D0 CF 11 E0 A1 B1 1A E1 }
    $auto = /(Auto_?Open|Document_Open|Workbook_Open)/ nocase
    $start = /(WScript\.Shell|Shell\.Application|ShellExecute|URLDownloadToFile)/ nocase
  condition: $ole at 0 and $auto and $start
}

rule coin_miner {
  meta: description = "a configured coin miner"
  strings:
    $pool = /stratum\+(tcp|ssl):\/\/[0-9A-Za-z.-]{4,100}:[0-9]{2,5}/
    $a = "randomx" nocase
    $b = "donate-level"
    $c = "xmrig" nocase
  condition: $pool and any of ($a, $b, $c)
}
